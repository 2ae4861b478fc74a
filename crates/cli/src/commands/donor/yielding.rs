//! In words, when a donor's machine was its owner's.

use worldcompute_preempt::{Report, Sense, Yield};

/// What is watched, and the last yields, the newest first.
pub fn in_words(report: &Report) -> Vec<String> {
    let watched = report.senses.iter().map(sense);
    let watched = watched.map(|sense| format!("watches    {sense}"));
    let last = report.last.iter().rev();
    watched
        .chain(last.map(|one| format!("yielded    {}", once(one))))
        .collect()
}

fn sense(sense: &Sense) -> String {
    match &sense.why {
        Some(why) => format!("{} (blind: {why})", sense.trigger),
        None => format!("{} ({})", sense.trigger, sense.reading),
    }
}

fn once(one: &Yield) -> String {
    let mut parts = vec![format!("{} to {}", one.noticed_at, one.trigger)];
    match one.frozen_after_us {
        _ if one.sandboxes == 0 => parts.push("nothing ran".to_owned()),
        Some(after) => parts.push(format!("{} frozen after {after} us", one.sandboxes)),
        None => parts.push(format!("{} told to stop", one.sandboxes)),
    }
    if one.released > 0 {
        let gone = one
            .released_after_ms
            .map(|after| format!(" after {after} ms"));
        parts.push(format!(
            "{} ended{}",
            one.released,
            gone.unwrap_or_default()
        ));
    }
    if one.would_not_stop > 0 {
        parts.push(format!("{} would not stop", one.would_not_stop));
    }
    parts.push(match one.resumed_at {
        Some(at) => format!("{} went on {at}", one.resumed),
        None => "it lasts".to_owned(),
    });
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use worldcompute_preempt::Trigger;

    use super::*;

    #[test]
    fn each_yield_is_a_line_that_says_what_was_lost() {
        let mut one = Yield {
            trigger: Trigger::Input,
            noticed_at: "2024-01-01T00:00:00Z".parse().unwrap(),
            sandboxes: 2,
            frozen_after_us: Some(180),
            released: 2,
            released_after_ms: Some(263),
            would_not_stop: 0,
            resumed_at: None,
            resumed: 0,
        };
        assert_eq!(
            once(&one),
            "2024-01-01T00:00:00Z to input, 2 frozen after 180 us, 2 ended after 263 ms, it lasts"
        );
        (one.released, one.would_not_stop, one.released_after_ms) = (1, 1, None);
        (one.resumed, one.resumed_at) = (1, "2024-01-01T00:00:40Z".parse().ok());
        assert_eq!(
            once(&one),
            "2024-01-01T00:00:00Z to input, 2 frozen after 180 us, 1 ended, 1 would not stop, \
             1 went on 2024-01-01T00:00:40Z"
        );
    }
}
