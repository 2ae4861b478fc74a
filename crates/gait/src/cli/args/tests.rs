use super::super::command::{Context, Outcome};
use super::*;

static COMMAND: Command = Command {
    words: &["try"],
    help: "Tries.",
    flags: &[
        Flag::text("out", "here"),
        Flag::switch("force"),
        Flag::int("count", 3),
        Flag::duration("ttl", SignedDuration::from_secs(1)),
        Flag::group(&[Flag::csv("scope")]),
    ],
    positionals: Positionals::Interleaved {
        min: 1,
        max: 2,
        expected: "expected a path",
    },
    run: nothing,
};

static WRAPPER: Command = Command {
    words: &["wrap"],
    help: "Wraps.",
    flags: &[Flag::text("cwd", "")],
    positionals: Positionals::AfterDashes {
        expected: "expected a command",
    },
    run: nothing,
};

static ALONE: Command = Command {
    words: &["alone"],
    help: "Takes nothing.",
    flags: &[Flag::switch("explain")],
    positionals: Positionals::None,
    run: nothing,
};

fn nothing(_context: &Context, _args: &Args) -> Result<Outcome> {
    Outcome::ok(&serde_json::json!({}), "")
}

fn parse(command: &'static Command, line: &str) -> Parsed {
    let arguments: Vec<String> = line.split_ascii_whitespace().map(str::to_owned).collect();
    Args::parse(command, &arguments)
}

fn args(line: &str) -> Args {
    parse(&COMMAND, line).args.unwrap()
}

fn refusal(command: &'static Command, line: &str) -> String {
    let fault = parse(command, line).args.err().unwrap();
    assert_eq!(fault.code(), "invalid_input");
    fault.message().to_owned()
}

#[test]
fn flags_are_read_wherever_they_stand() {
    for line in [
        "p --out x --force --count 7 --scope a,b,,c --ttl 2m",
        "-out=x -force=true -count=7 -scope=a,b,c -ttl=120s p",
        "--force --out x p --count 0x7 --scope a --scope ,a,b,c, --ttl 1m60s",
    ] {
        let args = args(line);
        assert_eq!(args.text("out"), "x");
        assert!(args.switch("force"));
        assert_eq!(args.int("count"), 7);
        assert_eq!(args.csv("scope"), ["a", "b", "c"]);
        assert_eq!(args.duration("ttl"), SignedDuration::from_mins(2));
        assert_eq!(args.positionals(), ["p"]);
        assert!(args.given("out"));
    }
}

#[test]
fn flags_that_are_not_given_have_their_defaults() {
    let args = args("p");
    assert_eq!(args.text("out"), "here");
    assert!(!args.switch("force"));
    assert_eq!(args.int("count"), 3);
    assert!(args.csv("scope").is_empty());
    assert_eq!(args.duration("ttl"), SignedDuration::from_secs(1));
    assert!(!args.given("out"));
}

#[test]
fn a_switch_takes_no_value_from_the_next_argument() {
    for line in [
        "--force p --json",
        "p --force --json",
        "--force=false p --force --json",
    ] {
        let parsed = parse(&COMMAND, line);
        let args = parsed.args.unwrap();
        assert!(parsed.json && args.switch("force"));
        assert_eq!(args.positionals(), ["p"]);
    }
}

#[test]
fn wrong_flags_are_refused_in_the_words_of_the_contract() {
    for (line, message) in [
        ("p --x", "flag provided but not defined: -x"),
        ("p -x=1", "flag provided but not defined: -x"),
        ("p --out", "flag needs an argument: -out"),
        ("p ---out x", "bad flag syntax: ---out"),
        ("p -=x", "bad flag syntax: -=x"),
        (
            "p --force=maybe",
            "invalid boolean value \"maybe\" for flag -force: parse error",
        ),
        (
            "p --count many",
            "invalid value \"many\" for flag -count: parse error",
        ),
        (
            "p --ttl 3",
            "invalid value \"3\" for flag -ttl: parse error",
        ),
        ("", "expected a path"),
        ("a b c", "unexpected positional arguments"),
    ] {
        assert_eq!(refusal(&COMMAND, line), message, "{line:?}");
    }
    assert_eq!(refusal(&ALONE, "stray"), "unexpected positional arguments");
}

#[test]
fn arguments_that_do_not_parse_are_refused_as_json_where_json_is_asked_for() {
    for line in ["--x --json", "--json --x", "p --count many -json"] {
        assert!(parse(&COMMAND, line).json, "{line:?}");
    }
    for line in ["--x", "--x -- --json"] {
        assert!(!parse(&COMMAND, line).json, "{line:?}");
    }
}

#[test]
fn a_lone_dash_and_what_follows_two_dashes_are_positionals() {
    assert_eq!(args("- --force").positionals(), ["-"]);
    assert_eq!(args("--force -- --out").positionals(), ["--out"]);
    assert_eq!(args("--out --force p").text("out"), "--force");
}

#[test]
fn the_other_programs_command_line_is_left_alone() {
    let wrapped = parse(&WRAPPER, "--cwd d -- make --json -- all");
    assert!(!wrapped.json);
    assert_eq!(
        wrapped.args.unwrap().positionals(),
        ["make", "--json", "--", "all"]
    );
    assert_eq!(refusal(&WRAPPER, "--cwd d"), "expected a command");
    assert_eq!(refusal(&WRAPPER, "make all"), "expected -- before \"make\"");
}

#[test]
fn help_and_explanation_need_no_positionals() {
    assert!(args("--help").wants_help());
    assert!(args("-h").wants_help());
    assert!(args("--explain").wants_explanation());
    let own = parse(&ALONE, "--explain").args.unwrap();
    assert!(own.switch("explain") && !own.wants_explanation());
}
