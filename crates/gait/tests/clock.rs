//! A machine whose clock was never set, or shows a time that no timestamp can say: every command says so and does
//! nothing.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

mod support;

use std::process::{Command, Stdio};

use support::Gait;

/// The C library's clock, showing the seconds in the variable `SHOWN`.
const SHOWN: &str = r#"
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *at) {
    if (id != CLOCK_REALTIME) return syscall(SYS_clock_gettime, id, at);
    at->tv_sec = atoll(getenv("SHOWN"));
    at->tv_nsec = 0;
    return 0;
}
"#;

/// A place where the clock shows `seconds` since 1970; `None` without a C compiler.
fn place(seconds: &str) -> Option<Gait> {
    let gait = Gait::new();
    let source = gait.file("clock.c", SHOWN);
    let library = gait.path().join("clock.so").display().to_string();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o", &library, &source])
        .stdin(Stdio::null())
        .status();
    match compiled {
        Ok(status) if status.success() => {
            std::fs::remove_file(source).unwrap();
            Some(gait.env("LD_PRELOAD", &library).env("SHOWN", seconds))
        }
        failed => {
            eprintln!("skipped: no C compiler to set a clock with: {failed:?}");
            None
        }
    }
}

/// The words of every command, from the program's own help.
fn commands() -> Vec<Vec<String>> {
    let help = Gait::new().run(&["help"]).stdout;
    let lines = help.lines().filter_map(|line| line.strip_prefix("  gait "));
    lines
        .map(|line| {
            let words = line.split_whitespace().map(str::to_owned);
            words
                .take_while(|word| !word.starts_with(char::is_uppercase))
                .collect()
        })
        .collect()
}

#[test]
fn by_a_clock_that_was_never_set_no_command_does_anything() {
    // One second before 1980, the start of 9999, and past what a timestamp can say.
    for seconds in ["315532799", "253370764800", "253402300800", "-1"] {
        let Some(gait) = place(seconds) else { return };
        let mut told = 0;
        for words in commands() {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let (code, json) = gait.json(&words);
            match words[..] {
                ["hook"] => {
                    let asked = &json["hookSpecificOutput"];
                    assert_eq!((code, &asked["permissionDecision"]), (0, &"deny".into()));
                }
                ["doctor"] => {
                    let checks = json["checks"].as_array().unwrap();
                    let clock = checks
                        .iter()
                        .find(|check| check["name"] == "clock")
                        .unwrap();
                    assert_eq!((code, &clock["status"]), (7, &"fail".into()), "{json}");
                }
                // A wrong command line is told of first.
                _ if code == 6 => {}
                _ => {
                    assert_eq!(
                        (code, &json["error_code"]),
                        (7, &"clock_not_set".into()),
                        "{words:?} at {seconds}: {json}"
                    );
                    told += 1;
                }
            }
        }
        assert!(told > 40, "only {told} commands look at the clock");
        for line in [
            "demo",
            "keys init",
            "keys rotate",
            "kill-switch add --tool-name t",
            "job submit --id j",
            "verify run_demo",
            "version",
            "run session start --journal j --session-id s --run-id r",
        ] {
            let (code, json) = gait.json(&line.split(' ').collect::<Vec<_>>());
            assert_eq!(
                (code, &json["error_code"]),
                (7, &"clock_not_set".into()),
                "{line} at {seconds}: {json}"
            );
        }
        let left = std::fs::read_dir(gait.path()).unwrap().count();
        assert_eq!(left, 1, "nothing but the clock is left at {seconds}");
    }
}

#[test]
fn the_first_and_the_last_second_of_a_clock_that_was_set_are_taken() {
    for seconds in ["315532800", "253370764799"] {
        let Some(gait) = place(seconds) else { return };
        assert_eq!(gait.json(&["demo"]).0, 0, "{seconds}");
        assert_eq!(gait.json(&["doctor"]).0, 0, "{seconds}");
        let added = ["kill-switch", "add", "--tool-name", "t"];
        assert_eq!(gait.json(&added).0, 0, "{seconds}");
    }
}
