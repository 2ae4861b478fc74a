//! A warden by a clock that is set by hand, on a machine that shows what it is told to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use jiff::Timestamp;

use super::*;
use crate::report::{Log, MAX_YIELDS, Report};
use crate::sandboxes::{Freezable, Registered};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// What the machine shows; shared with the warden's senses and clock.
#[derive(Clone, Default)]
struct Machine(Arc<Mutex<Shown>>);

#[derive(Default)]
struct Shown {
    now: Duration,
    readings: BTreeMap<Trigger, Reading>,
    looks: usize,
}

impl Machine {
    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.0.lock().unwrap()
    }

    fn show(&self, trigger: Trigger, reading: Reading) {
        self.shown().readings.insert(trigger, reading);
    }
}

impl Senses for Machine {
    fn look(&mut self, trigger: Trigger) -> Reading {
        let mut shown = self.shown();
        shown.looks += 1;
        let reading = shown.readings.get(&trigger).copied();
        if trigger == Trigger::Input {
            // It is read away.
            shown.readings.remove(&trigger);
        }
        reading.unwrap_or(Reading::Quiet)
    }

    fn wait(&mut self, _limit: Option<Duration>, _listen: bool) -> bool {
        unreachable!("the tests take each step themselves")
    }
}

impl Clock for Machine {
    fn now(&self) -> Duration {
        self.shown().now
    }

    fn wall(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH + self.shown().now
    }
}

/// A sandbox that does as it is told, or does not.
#[derive(Default)]
struct Guest {
    told: AtomicBool,
    deaf: AtomicBool,
    freezes: AtomicUsize,
    resumes: AtomicUsize,
    releases: AtomicUsize,
}

impl Guest {
    fn deaf() -> Self {
        Self {
            deaf: AtomicBool::new(true),
            ..Self::default()
        }
    }

    fn counts(&self) -> [usize; 3] {
        [&self.freezes, &self.resumes, &self.releases].map(|count| count.load(Ordering::SeqCst))
    }
}

impl Freezable for Guest {
    fn freeze(&self) {
        self.told.store(true, Ordering::SeqCst);
        self.freezes.fetch_add(1, Ordering::SeqCst);
    }

    fn stands_still(&self) -> bool {
        self.told.load(Ordering::SeqCst) && !self.deaf.load(Ordering::SeqCst)
    }

    fn resume(&self) {
        self.told.store(false, Ordering::SeqCst);
        self.resumes.fetch_add(1, Ordering::SeqCst);
    }

    fn release(&self) {
        self.releases.fetch_add(1, Ordering::SeqCst);
    }
}

struct Lab {
    machine: Machine,
    warden: Warden<Machine, Machine>,
    changes: Arc<Mutex<Vec<bool>>>,
}

impl Lab {
    /// Everything is watched, and the settings are the default ones.
    fn new() -> Self {
        Self::with(Settings {
            on: Trigger::ALL.into(),
            ..Settings::default()
        })
    }

    fn with(settings: Settings) -> Self {
        let (machine, changes) = (Machine::default(), Arc::new(Mutex::new(Vec::new())));
        machine.shown().now = S;
        let shared = Arc::new(Shared::new(Log::of(&settings)));
        let told = changes.clone();
        let on_change = Box::new(move |yields| told.lock().unwrap().push(yields));
        let warden = Warden::new(
            settings,
            machine.clone(),
            machine.clone(),
            shared,
            on_change,
        );
        let mut lab = Self {
            machine,
            warden,
            changes,
        };
        lab.warden.step();
        lab
    }

    fn register(&self, guest: Guest) -> (Arc<Guest>, Registered) {
        let guest = Arc::new(guest);
        let registered = self.warden.shared.register(guest.clone());
        (guest, registered)
    }

    /// Has it happen now, as when the supervisor is woken for it.
    fn happens(&mut self, trigger: Trigger) {
        self.machine.show(trigger, Reading::Fires);
        self.warden.look_soon(trigger);
        self.warden.step();
    }

    /// Lets time pass, and the warden do what it would do meanwhile.
    fn pass(&mut self, time: Duration) {
        let until = self.machine.now() + time;
        loop {
            let patience = self.warden.patience().unwrap_or(time);
            let next = self.machine.now() + patience;
            if next > until {
                break;
            }
            self.machine.shown().now = next.max(self.machine.now() + MS / 10);
            self.warden.step();
        }
        self.machine.shown().now = until;
        self.warden.step();
    }

    fn report(&self) -> Report {
        self.warden.shared.lock().log.report()
    }

    fn latest(&self) -> Yield {
        self.report().last.last().cloned().unwrap()
    }
}

#[test]
fn a_condition_freezes_everything_and_it_goes_on_thirty_seconds_after_it_has_passed() {
    let mut lab = Lab::new();
    let (one, _one) = lab.register(Guest::default());
    let (other, _other) = lab.register(Guest::default());
    lab.happens(Trigger::Temperature);
    assert_eq!((one.counts(), other.counts()), ([1, 0, 0], [1, 0, 0]));
    assert_eq!(lab.report().yielding, Some(Trigger::Temperature));
    lab.pass(100 * S);
    assert_eq!(one.counts(), [1, 0, 0], "it is still hot");
    lab.machine.show(Trigger::Temperature, Reading::Quiet);
    lab.pass(29 * S);
    assert_eq!(one.counts(), [1, 0, 0]);
    lab.pass(S);
    assert_eq!((one.counts(), other.counts()), ([1, 1, 0], [1, 1, 0]));
    let latest = lab.latest();
    assert_eq!(
        (latest.sandboxes, latest.released, latest.resumed),
        (2, 0, 2)
    );
    assert_eq!(latest.frozen_after_us, Some(0));
    assert!(latest.resumed_at.unwrap() > latest.noticed_at);
    assert_eq!(*lab.changes.lock().unwrap(), [true, false]);
}

#[test]
fn who_presses_a_key_gets_the_memory_too_before_half_a_second_is_over() {
    let mut lab = Lab::new();
    let (guest, registered) = lab.register(Guest::default());
    lab.happens(Trigger::Input);
    assert_eq!(guest.counts(), [1, 0, 0]);
    lab.pass(RELEASE_AFTER - MS);
    assert_eq!(guest.counts(), [1, 0, 0]);
    lab.pass(MS);
    assert_eq!(guest.counts(), [1, 0, 1]);
    assert_eq!(lab.latest().released_after_ms, None, "it is not gone yet");
    drop(registered);
    lab.pass(2 * MS);
    let latest = lab.latest();
    let after = Duration::from_millis(latest.released_after_ms.unwrap());
    assert!(
        (RELEASE_AFTER..RELEASE_WITHIN).contains(&after),
        "{after:?}"
    );
    assert_eq!((latest.released, latest.would_not_stop), (1, 0));
    lab.pass(40 * S);
    assert_eq!(
        guest.counts(),
        [1, 0, 1],
        "what is ended is not resumed, nor ended twice"
    );
}

#[test]
fn who_only_wants_the_processor_is_given_no_memory() {
    let mut lab = Lab::new();
    let (guest, _guest) = lab.register(Guest::default());
    for trigger in [
        Trigger::Load,
        Trigger::Power,
        Trigger::Schedule,
        Trigger::User,
    ] {
        lab.happens(trigger);
        lab.pass(S);
        lab.machine.show(trigger, Reading::Quiet);
    }
    lab.pass(31 * S);
    assert_eq!(guest.counts(), [1, 1, 0]);
}

#[test]
fn memory_that_is_there_again_in_time_is_not_asked_for() {
    let mut lab = Lab::new();
    let (guest, _guest) = lab.register(Guest::default());
    lab.happens(Trigger::Memory);
    lab.pass(100 * MS);
    lab.machine.show(Trigger::Memory, Reading::Quiet);
    lab.pass(10 * S);
    assert_eq!(guest.counts(), [1, 0, 0]);
    lab.happens(Trigger::Memory);
    lab.pass(RELEASE_AFTER);
    assert_eq!(guest.counts(), [1, 0, 1], "it is asked for anew");
}

#[test]
fn a_person_who_comes_while_it_is_hot_gets_the_memory() {
    let mut lab = Lab::new();
    let (guest, _guest) = lab.register(Guest::default());
    lab.happens(Trigger::Temperature);
    lab.pass(5 * S);
    lab.happens(Trigger::Input);
    lab.pass(RELEASE_AFTER);
    assert_eq!(guest.counts(), [1, 0, 1]);
    assert_eq!(lab.report().last.len(), 1, "it is one yield");
}

#[test]
fn a_sandbox_that_does_not_stop_is_ended_whatever_fired_and_that_is_told() {
    let mut lab = Lab::new();
    let (deaf, registered) = lab.register(Guest::deaf());
    let (tame, _tame) = lab.register(Guest::default());
    lab.happens(Trigger::Load);
    assert_eq!(lab.latest().frozen_after_us, None);
    lab.pass(RELEASE_AFTER - MS);
    assert_eq!(deaf.counts(), [1, 0, 0]);
    lab.pass(3 * MS);
    assert_eq!((deaf.counts(), tame.counts()), ([1, 0, 1], [1, 0, 0]));
    drop(registered);
    lab.pass(S);
    let latest = lab.latest();
    assert_eq!((latest.released, latest.would_not_stop), (1, 1));
    assert!(latest.released_after_ms.unwrap() < 500, "{latest:?}");
}

#[test]
fn a_sandbox_that_stops_late_is_kept_and_it_is_told_when_that_was() {
    let mut lab = Lab::new();
    let (guest, _guest) = lab.register(Guest::deaf());
    lab.happens(Trigger::Load);
    lab.pass(7 * MS);
    guest.deaf.store(false, Ordering::SeqCst);
    lab.pass(S);
    let took = lab.latest().frozen_after_us.unwrap();
    assert!((7_000..=8_000).contains(&took), "{took}");
    assert_eq!(guest.counts(), [1, 0, 0]);
}

#[test]
fn what_begins_while_the_machine_is_yielded_begins_frozen() {
    let mut lab = Lab::new();
    lab.happens(Trigger::Load);
    let (guest, _guest) = lab.register(Guest::default());
    assert_eq!(guest.counts(), [1, 0, 0]);
    lab.happens(Trigger::Input);
    lab.pass(S);
    let (late, _late) = lab.register(Guest::default());
    lab.pass(S);
    assert_eq!(late.counts(), [1, 0, 1], "its memory is not its own either");
    lab.machine.show(Trigger::Load, Reading::Quiet);
    lab.pass(31 * S);
    let (after, _after) = lab.register(Guest::default());
    assert_eq!(after.counts(), [0, 0, 0]);
}

#[test]
fn what_has_ended_is_not_touched_again() {
    let mut lab = Lab::new();
    let (gone, registered) = lab.register(Guest::default());
    let (stays, _stays) = lab.register(Guest::default());
    lab.happens(Trigger::Load);
    drop(registered);
    lab.machine.show(Trigger::Load, Reading::Quiet);
    lab.pass(31 * S);
    assert_eq!((gone.counts(), stays.counts()), ([1, 0, 0], [1, 1, 0]));
    assert_eq!(Arc::strong_count(&gone), 1);
    assert_eq!(lab.latest().resumed, 1);
}

#[test]
fn a_storm_of_input_is_one_yield_and_costs_ten_looks_a_second() {
    let mut lab = Lab::with(Settings {
        on: [Trigger::Input].into(),
        ..Settings::default()
    });
    let (guest, _guest) = lab.register(Guest::default());
    lab.happens(Trigger::Input);
    let before = lab.machine.shown().looks;
    assert!(!lab.warden.listens());
    for _ in 0..10_000 {
        lab.machine.show(Trigger::Input, Reading::Fires);
        lab.pass(MS);
    }
    assert!(lab.machine.shown().looks - before <= 110);
    assert_eq!((lab.report().last.len(), guest.counts()), (1, [1, 0, 1]));
    lab.pass(29 * S);
    assert!(
        lab.report().yielding.is_some(),
        "the last of it was less than 30 s ago"
    );
    lab.pass(2 * S);
    assert!(lab.report().yielding.is_none() && lab.warden.listens());
}

#[test]
fn what_does_not_end_although_it_has_to_is_not_watched_closely_for_ever() {
    let mut lab = Lab::new();
    let (_guest, _registered) = lab.register(Guest::default());
    lab.happens(Trigger::Input);
    lab.pass(RELEASE_WITHIN + MS);
    assert!(lab.warden.patience().unwrap() > CLOSE_LOOK);
    let closely = Duration::from_secs(1);
    let before = lab.machine.shown().looks;
    lab.pass(closely);
    assert!(lab.machine.shown().looks - before < 60);
}

#[test]
fn a_sense_that_fails_is_blind_and_holds_nobody() {
    let mut lab = Lab::new();
    let (guest, _guest) = lab.register(Guest::default());
    lab.happens(Trigger::Power);
    lab.machine
        .show(Trigger::Power, Reading::Blind("it was pulled out"));
    lab.pass(31 * S);
    assert_eq!(guest.counts(), [1, 1, 0]);
    let senses = lab.report().senses;
    let power = senses
        .iter()
        .find(|sense| sense.trigger == Trigger::Power)
        .unwrap();
    assert_eq!(
        (power.reading.as_str(), power.why.as_deref()),
        ("blind", Some("it was pulled out"))
    );
}

#[test]
fn what_is_not_watched_is_neither_looked_at_nor_told() {
    let mut lab = Lab::with(Settings::never());
    for trigger in Trigger::ALL {
        lab.happens(trigger);
    }
    assert_eq!(lab.machine.shown().looks, 0);
    assert_eq!(lab.report(), Report::default());
    assert_eq!(lab.warden.patience(), None, "nothing ever wakes it");
}

#[test]
fn a_clock_that_jumps_neither_frees_early_nor_holds_for_ever() {
    let mut lab = Lab::new();
    let (guest, _guest) = lab.register(Guest::default());
    lab.machine.shown().now = 100_000 * S;
    lab.happens(Trigger::Load);
    lab.machine.shown().now = 200_000 * S;
    lab.warden.step();
    assert_eq!(
        guest.counts(),
        [1, 0, 0],
        "the load is looked at before anything goes on"
    );
    lab.machine.shown().now = 10 * S;
    lab.warden.step();
    lab.machine.show(Trigger::Load, Reading::Quiet);
    lab.pass(S);
    lab.happens(Trigger::Temperature);
    lab.machine.show(Trigger::Temperature, Reading::Quiet);
    lab.pass(31 * S);
    assert_eq!(guest.counts(), [1, 1, 0]);
}

#[test]
fn the_owner_lets_it_go_on_at_once_unless_it_still_fires() {
    let mut lab = Lab::new();
    let (guest, _guest) = lab.register(Guest::default());
    lab.happens(Trigger::Load);
    lab.machine.show(Trigger::Load, Reading::Quiet);
    lab.warden.shared.lock().go_on = true;
    lab.warden.step();
    assert_eq!(guest.counts(), [1, 1, 0]);
    lab.happens(Trigger::Load);
    lab.warden.shared.lock().go_on = true;
    lab.pass(2 * S);
    assert_eq!(guest.counts(), [3, 2, 0]);
    assert!(lab.report().yielding.is_some());
}

#[test]
fn only_the_last_yields_are_kept() {
    let mut lab = Lab::new();
    for _ in 0..2 * MAX_YIELDS {
        lab.happens(Trigger::Load);
        lab.machine.show(Trigger::Load, Reading::Quiet);
        lab.pass(31 * S);
    }
    let last = lab.report().last;
    assert_eq!(last.len(), MAX_YIELDS);
    assert!(last.iter().all(|one| one.resumed_at.is_some()));
    assert!(last.is_sorted_by_key(|one| one.noticed_at));
}

#[test]
fn from_the_trigger_to_the_last_sandbox_nothing_is_allocated() {
    let mut lab = Lab::new();
    lab.warden.on_change = Box::new(|_| {});
    let held: Vec<_> = (0..20).map(|_| lab.register(Guest::default())).collect();
    let noticed = lab.machine.now();
    let allocated = allocation_counter::measure(|| lab.warden.begin(Trigger::Input, noticed));
    assert_eq!(allocated.count_total, 0);
    assert!(held.iter().all(|(guest, _)| guest.counts() == [1, 0, 0]));
}
