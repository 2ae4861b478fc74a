//! How long a donor that starts is without an address: behind a firewall that lets out TCP to port 443 alone.

use std::time::{Duration, Instant};

use serde_json::json;

use super::caller::now;
use super::claim::Claim;
use super::ground::Ground;
use super::means::{Means, Report};
use super::node::Node;
use super::stop::Stop;
use crate::shell::{Failure, Result};

/// Donors that start, one after the other, each for the first time.
const DONORS: usize = 21;
/// What half of them may take on a machine that does much else; the promise is a second on one that does not.
const LIMIT: Duration = Duration::from_secs(3);
/// In which a donor is reserved on a relay.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at its log.
const LOOK: Duration = Duration::from_millis(50);
/// What relays grant.
const RESERVATION_S: u32 = 120;

/// Plays it.
pub fn play(claim: &Claim, means: &Means, stop: &Stop) -> Result<Report> {
    let ground = Ground::make(claim, "first")?;
    let relays = ground.relays(means, RESERVATION_S, stop)?;
    let mut times = Vec::with_capacity(DONORS);
    for number in 0..DONORS {
        let began = now();
        let donor = ground.start_donor(&format!("donor{number}"), &relays, means, stop)?;
        times.push(Duration::from_millis(
            reserved(&donor, stop)?.saturating_sub(began),
        ));
    }
    Ok(report(times))
}

/// When the first relay granted a reservation, by the donor's log.
fn reserved(donor: &Node<'_>, stop: &Stop) -> Result<u64> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(granted) = donor.records("reservation_accepted").first() {
            return Ok(granted.at);
        }
        stop.wait(LOOK)?;
    }
    Err(Failure::new(format!(
        "a donor had no reservation within {} s",
        PATIENCE.as_secs()
    )))
}

fn report(mut times: Vec<Duration>) -> Report {
    times.sort_unstable();
    let at = |share: usize| {
        let time = times.get(times.len() * share / 100);
        time.copied().unwrap_or_default().as_millis()
    };
    let (median, nine_of_ten) = (at(50), at(90));
    Report {
        data: json!({
            "scenario": "first",
            "donors": times.len(),
            "p50_ms": median,
            "p90_ms": nine_of_ten,
            "times_ms": times.iter().map(Duration::as_millis).collect::<Vec<_>>(),
        }),
        text: format!(
            "{} donors, TCP to port 443 alone: from start to the first reservation half took up to {median} ms, nine of ten up \
             to {nine_of_ten} ms\n",
            times.len()
        ),
        broken: match median > LIMIT.as_millis() {
            true => vec![format!("half of the donors took up to {median} ms")],
            false => Vec::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_are_told_by_their_order() {
        let report = report([30, 10, 20].map(Duration::from_millis).to_vec());
        assert_eq!(report.data["p50_ms"], 20);
        assert_eq!(report.data["p90_ms"], 30);
        assert_eq!(report.data["times_ms"], json!([10, 20, 30]));
        assert!(report.broken.is_empty());
    }

    #[test]
    fn donors_that_take_too_long_are_told_of() {
        let broken = |times: [Duration; 3]| report(times.to_vec()).broken.len();
        assert_eq!(broken([LIMIT, LIMIT, 9 * LIMIT]), 0);
        assert_eq!(broken([LIMIT, 2 * LIMIT, 2 * LIMIT]), 1);
    }
}
