//! Hours in which nothing runs, as in `mon-fri 08:00-18:00`.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{DateTime, Weekday};
use serde::{Deserialize, Serialize};
use worldcompute_fault::{Category, Fault};

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const DAY_MINUTES: u16 = 24 * 60;
const EVERY_DAY: u8 = 0x7f;

/// A stretch of the day on some days of the week, by the machine's time zone. One that ends before it begins goes on
/// into the next day; one that ends as it begins lasts a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QuietHours {
    /// Bit 0 is Monday.
    days: u8,
    /// Minutes of the day.
    from: u16,
    to: u16,
}

impl QuietHours {
    /// Whether they hold at that time of the machine's zone.
    pub fn contain(&self, at: DateTime) -> bool {
        let minute = at.hour() as u16 * 60 + at.minute() as u16;
        let begun_today = self.on(at.weekday()) && minute >= self.from;
        let begun_yesterday = self.on(at.weekday().previous());
        match self.from < self.to {
            true => begun_today && minute < self.to,
            false => begun_today || begun_yesterday && minute < self.to,
        }
    }

    fn on(&self, day: Weekday) -> bool {
        self.days & 1 << day.to_monday_zero_offset() != 0
    }
}

impl FromStr for QuietHours {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        parse(text).ok_or_else(|| {
            let message = format!("yield.quiet_hours: {text:?} are no hours");
            Fault::new(Category::InvalidInput, "config_invalid", message).hint(
                "write them as \"22:00-06:00\", \"sat 00:00-24:00\" or \"mon-fri 08:00-18:00\"",
            )
        })
    }
}

impl TryFrom<String> for QuietHours {
    type Error = Fault;

    fn try_from(text: String) -> Result<Self, Fault> {
        text.parse()
    }
}

impl From<QuietHours> for String {
    fn from(hours: QuietHours) -> Self {
        hours.to_string()
    }
}

impl fmt::Display for QuietHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != EVERY_DAY {
            let named = DAYS.iter().enumerate();
            let on = named.filter(|(day, _)| self.days & 1 << day != 0);
            let days: Vec<&str> = on.map(|(_, name)| *name).collect();
            write!(f, "{} ", days.join(","))?;
        }
        let [from, to] = [self.from, self.to].map(|at| (at / 60, at % 60));
        write!(f, "{:02}:{:02}-{:02}:{:02}", from.0, from.1, to.0, to.1)
    }
}

fn parse(text: &str) -> Option<QuietHours> {
    let (days, hours) = match text.split_once(' ') {
        Some((days, hours)) => (days_of(days)?, hours),
        None => (EVERY_DAY, text),
    };
    let (from, to) = hours.split_once('-')?;
    let (from, to) = (minute_of(from)?, minute_of(to)?);
    (from < DAY_MINUTES).then_some(QuietHours { days, from, to })
}

/// `mon`, `mon-fri`, `sat-mon`, or several of those between commas.
fn days_of(text: &str) -> Option<u8> {
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (day_of(first)?, day_of(last)?);
        let length = (last + 7 - first) % 7;
        Some((0..=length).fold(0, |days, day| days | 1 << ((first + day) % 7)))
    };
    let mut ranges = text.split(',').map(range);
    ranges.try_fold(0, |days, more| Some(days | more?))
}

fn day_of(name: &str) -> Option<usize> {
    DAYS.iter().position(|day| *day == name)
}

/// `00:00` to `24:00`.
fn minute_of(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten()
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    let at = hour * 60 + minute;
    (minute < 60 && at <= DAY_MINUTES).then_some(at)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    /// A Monday and the days after it.
    fn at(day: i8, hour: i8, minute: i8) -> DateTime {
        date(2024, 1, day).at(hour, minute, 0, 0)
    }

    fn hours(text: &str) -> QuietHours {
        text.parse().unwrap()
    }

    #[test]
    fn they_hold_from_their_first_minute_to_before_their_last() {
        let office = hours("mon-fri 08:00-18:00");
        for (time, quiet) in [
            (at(1, 7, 59), false),
            (at(1, 8, 0), true),
            (at(5, 17, 59), true),
            (at(5, 18, 0), false),
            (at(6, 12, 0), false),
            (at(7, 12, 0), false),
        ] {
            assert_eq!(office.contain(time), quiet, "{time}");
        }
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        let night = hours("fri 22:00-06:00");
        for (time, quiet) in [
            (at(5, 21, 59), false),
            (at(5, 22, 0), true),
            (at(6, 5, 59), true),
            (at(6, 6, 0), false),
            (at(5, 3, 0), false),
            (at(6, 23, 0), false),
        ] {
            assert_eq!(night.contain(time), quiet, "{time}");
        }
    }

    #[test]
    fn a_whole_day_is_a_day() {
        let saturday = hours("sat 00:00-24:00");
        assert!(saturday.contain(at(6, 0, 0)) && saturday.contain(at(6, 23, 59)));
        assert!(!saturday.contain(at(5, 23, 59)) && !saturday.contain(at(7, 0, 0)));
        let noons = hours("mon 12:00-12:00");
        assert!(noons.contain(at(1, 12, 0)) && noons.contain(at(2, 11, 59)));
        assert!(!noons.contain(at(1, 11, 59)) && !noons.contain(at(2, 12, 0)));
    }

    #[test]
    fn a_week_may_be_begun_anywhere() {
        let weekend = hours("sat-mon,wed 01:00-02:00");
        let quiet: Vec<bool> = (1..=7).map(|day| weekend.contain(at(day, 1, 0))).collect();
        assert_eq!(quiet, [true, false, true, false, false, true, true]);
        assert_eq!(weekend.to_string(), "mon,wed,sat,sun 01:00-02:00");
    }

    #[test]
    fn what_is_no_time_is_refused_by_name() {
        for text in [
            "",
            " ",
            "08:00",
            "8:00-18:00",
            "08:00-18:60",
            "08:00-24:01",
            "24:00-01:00",
            "+8:00-09:00",
            "moon 08:00-09:00",
            "mon- 08:00-09:00",
            " 08:00-09:00",
            "08:00-09:00 mon",
            "mon  08:00-09:00",
        ] {
            let fault = text.parse::<QuietHours>().unwrap_err();
            assert_eq!(fault.code(), "config_invalid", "{text:?}");
            assert!(fault.message().contains("quiet_hours"), "{fault}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_so_that_it_reads_the_same(text in "[a-u,:0-9 -]{0,24}") {
            if let Ok(read) = text.parse::<QuietHours>() {
                prop_assert_eq!(hours(&read.to_string()), read);
            }
        }

        #[test]
        fn all_hours_can_be_written(days in 1_u8..=0x7f, from in 0_u16..1440, to in 0_u16..=1440) {
            let hours_of = QuietHours { days, from, to };
            prop_assert_eq!(hours(&hours_of.to_string()), hours_of);
        }
    }
}
