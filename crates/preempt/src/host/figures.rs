//! Senses that are a figure in a file: temperature, power and memory.

use std::path::Path;

use super::{entries, text};
use crate::senses::Reading;

/// What a part of a machine that runs can have, in thousandths of a degree. Anything else is a sensor's way to say nothing.
const POSSIBLE: std::ops::RangeInclusive<i64> = -50_000..=150_000;

/// Fires above `limit` degrees in any zone.
pub fn temperature(folder: &Path, limit: u32) -> Reading {
    let zones = entries(folder).filter_map(|zone| text(&zone.join("temp")));
    let degrees = zones.filter_map(|zone| zone.trim().parse::<i64>().ok());
    match degrees.filter(|degrees| POSSIBLE.contains(degrees)).max() {
        Some(hottest) => Reading::of(hottest > i64::from(limit) * 1000),
        None => Reading::Blind("no thermal zone tells a temperature"),
    }
}

/// Fires while a battery of the machine's own is discharged and nothing charges it.
pub fn power(folder: &Path) -> Reading {
    let (mut batteries, mut discharging, mut plugged) = (0, false, false);
    for supply in entries(folder) {
        let says = |what: &str, word: &str| {
            text(&supply.join(what)).is_some_and(|text| text.trim() == word)
        };
        if says("type", "Battery") && !says("scope", "Device") {
            batteries += 1;
            discharging |= says("status", "Discharging");
        } else {
            plugged |= !says("scope", "Device") && says("online", "1");
        }
    }
    match batteries {
        0 => Reading::Blind("there is no battery"),
        _ => Reading::of(discharging && !plugged),
    }
}

/// Fires while more than `limit` percent of the memory are in use, what can be had back at once not counted.
pub fn memory(file: &Path, limit: u32) -> Reading {
    let text = text(file).unwrap_or_default();
    let kib = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
        let value = lines.next()?.trim().strip_suffix("kB")?;
        value.trim().parse::<u64>().ok()
    };
    match (kib("MemTotal:"), kib("MemAvailable:")) {
        (Some(total), Some(available)) if total > 0 => {
            let used = total.saturating_sub(available);
            Reading::of(u128::from(used) * 100 > u128::from(total) * u128::from(limit))
        }
        _ => Reading::Blind("the system does not tell how much memory is available"),
    }
}

#[cfg(test)]
mod tests {
    use worldcompute_durable::{Mode, write_atomic};

    use super::*;

    /// Files of the system, as they are named there.
    fn shows(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            write_atomic(&path, text.as_bytes(), Mode::Private).unwrap();
        }
        folder
    }

    fn is_blind(reading: Reading) -> bool {
        matches!(reading, Reading::Blind(_))
    }

    #[test]
    fn the_hottest_zone_counts_and_a_sensor_that_says_nothing_does_not() {
        let at = |files: &[(&str, &str)]| temperature(shows(files).path(), 80);
        assert_eq!(
            at(&[("a/temp", "80000\n"), ("b/temp", "20000\n")]),
            Reading::Quiet
        );
        assert_eq!(
            at(&[("a/temp", "80001\n"), ("b/temp", "20000\n")]),
            Reading::Fires
        );
        assert_eq!(
            at(&[("a/temp", "40000\n"), ("b/temp", "2147483647\n")]),
            Reading::Quiet
        );
        for nothing in ["", "hot", "-274000", "9999999999999999999999"] {
            assert!(is_blind(at(&[("a/temp", nothing)])), "{nothing}");
        }
        assert!(is_blind(temperature(Path::new("/nonexistent"), 80)));
    }

    #[test]
    fn a_machine_is_on_its_battery_while_that_empties_and_nothing_is_plugged_in() {
        let battery = |status| [("BAT0/type", "Battery\n"), ("BAT0/status", status)];
        let mains = |online| [("AC/type", "Mains\n"), ("AC/online", online)];
        for (status, online, reading) in [
            ("Discharging\n", "0\n", Reading::Fires),
            ("Discharging\n", "1\n", Reading::Quiet),
            ("Charging\n", "1\n", Reading::Quiet),
            ("Full\n", "1\n", Reading::Quiet),
        ] {
            let folder = shows(&[battery(status), mains(online)].concat());
            assert_eq!(power(folder.path()), reading, "{status} {online}");
        }
        assert_eq!(power(shows(&battery("Discharging")).path()), Reading::Fires);
    }

    #[test]
    fn the_battery_of_a_mouse_is_not_the_machines() {
        let mouse = [
            ("mouse/type", "Battery\n"),
            ("mouse/scope", "Device\n"),
            ("mouse/status", "Discharging\n"),
        ];
        assert!(is_blind(power(shows(&mouse).path())));
        assert!(is_blind(power(shows(&[]).path())));
        let mut laptop = mouse.to_vec();
        laptop.extend([("BAT0/type", "Battery"), ("BAT0/status", "Full")]);
        assert_eq!(power(shows(&laptop).path()), Reading::Quiet);
    }

    #[test]
    fn memory_is_full_above_its_limit_and_unknown_where_nothing_says_so() {
        let at = |text: &str| memory(&shows(&[("meminfo", text)]).path().join("meminfo"), 80);
        let of = |available: u64| {
            at(&format!(
                "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: {available} kB\n"
            ))
        };
        assert_eq!(of(200), Reading::Quiet);
        assert_eq!(of(199), Reading::Fires);
        assert_eq!(of(2000), Reading::Quiet);
        for nothing in [
            "",
            "MemTotal: 1000 kB\n",
            "MemTotal: 0 kB\nMemAvailable: 0 kB\n",
            "MemTotal: -1 kB\nMemAvailable: 0 kB\n",
        ] {
            assert!(is_blind(at(nothing)), "{nothing}");
        }
    }
}
