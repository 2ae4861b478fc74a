//! The stable faces of a fault: numbers, statuses, exit codes, JSON shapes and texts.

use worldcompute_fault::{Category, Fault, Problem, WcCode};

/// Number, name, gRPC status and HTTP status as the contract prints them.
const TABLE: &str = include_str!("fixtures/wc-codes.tsv");

fn of(category: Category) -> Fault {
    Fault::new(category, category.as_str(), "the message")
}

#[test]
fn every_numbered_code_has_the_statuses_of_the_contract() {
    let row = |code: &WcCode| {
        format!(
            "{}\t{}\t{}\t{}\n",
            code.number(),
            code.name(),
            code.grpc(),
            code.http()
        )
    };
    assert_eq!(WcCode::ALL.iter().map(row).collect::<String>(), TABLE);
}

#[test]
fn a_numbered_fault_has_the_statuses_of_its_number_whatever_its_category() {
    for &code in WcCode::ALL {
        for fault in [Fault::wc(code, "x"), of(Category::IoFailure).numbered(code)] {
            assert_eq!(
                (fault.http(), fault.grpc()),
                (code.http(), code.grpc()),
                "{code}"
            );
        }
    }
}

#[test]
fn slugs_categories_and_retryability_of_the_numbered_codes_are_stable() {
    let row = |code: &WcCode| {
        let fault = Fault::wc(*code, "");
        format!(
            "{code} {} {} retryable={}\n",
            code.slug(),
            fault.category(),
            fault.retryable()
        )
    };
    insta::assert_snapshot!(WcCode::ALL.iter().map(row).collect::<String>());
}

#[test]
fn statuses_exit_codes_and_hints_of_every_category_are_stable() {
    let row = |category: Category| {
        let fault = of(category);
        let statuses = format!("http={} grpc={}", fault.http(), fault.grpc());
        let exits = format!("exit={} gait={}", fault.exit_code(), fault.gait_exit_code());
        format!(
            "{category} {statuses} {exits} retryable={} hint={:?}\n",
            fault.retryable(),
            fault.hint_text()
        )
    };
    insta::assert_snapshot!(Category::ALL.map(row).concat());
}

#[test]
fn a_category_serialises_as_its_name_and_is_found_by_it() {
    for category in Category::ALL {
        assert_eq!(serde_json::to_value(category).unwrap(), category.as_str());
        assert_eq!(Category::parse(category.as_str()), Some(category));
    }
    assert_eq!(Category::parse("Invalid_Input"), None);
}

#[test]
fn a_number_is_read_only_in_its_one_spelling() {
    for &code in WcCode::ALL {
        assert_eq!(WcCode::parse(&code.to_string()), Some(code));
        assert_eq!(WcCode::from_number(code.number()), Some(code));
    }
    for wrong in [
        "",
        "WC-",
        "WC-1",
        "WC-01",
        "WC-0001",
        "WC-000",
        "WC-027",
        "WC-+01",
        "wc-001",
        "WC-001 ",
        "WC-٠٠١",
    ] {
        assert_eq!(WcCode::parse(wrong), None, "{wrong:?}");
    }
    assert_eq!(WcCode::from_number(0), None);
    assert_eq!(WcCode::from_number(27), None);
}

#[test]
fn exit_codes_single_out_usage_and_three_numbers() {
    assert_eq!(Fault::usage("no such flag").exit_code(), 2);
    assert_eq!(Fault::usage("no such flag").gait_exit_code(), 6);
    let special: Vec<_> = WcCode::ALL
        .iter()
        .filter(|&&code| Fault::wc(code, "").exit_code() != 1)
        .collect();
    let expected = [
        WcCode::ReservationAcquisitionFailed,
        WcCode::ParaDiGMSNonconvergence,
        WcCode::AttestationRootMismatch,
    ];
    assert_eq!(special, expected.iter().collect::<Vec<_>>());
    assert_eq!(
        expected.map(|code| Fault::wc(code, "").exit_code()),
        [65, 66, 67]
    );
}

#[test]
fn gait_has_exit_codes_for_failed_regressions_and_unsafe_operations() {
    let regress = Fault::new(
        Category::InternalFailure,
        "regress_failed",
        "2 fixtures failed",
    );
    assert_eq!(regress.gait_exit_code(), 5);
    let refused = Fault::new(
        Category::InternalFailure,
        "unsafe_operation",
        "real tools need an interlock",
    );
    assert_eq!(refused.gait_exit_code(), 8);
    assert_eq!(
        refused.hint_text(),
        "pass explicit unsafe flags only for approved replay paths"
    );
}

#[test]
fn the_envelope_of_every_category_is_stable() {
    let line = |category| {
        serde_json::to_string(&of(category).envelope("0123456789abcdef01234567")).unwrap()
    };
    insta::assert_snapshot!(Category::ALL.map(line).join("\n"));
}

#[test]
fn the_envelope_is_the_gates_byte_for_byte() {
    let invalid = Fault::new(
        Category::InvalidInput,
        "invalid_input",
        "missing required --policy",
    );
    let internal = Fault::new(
        Category::InternalFailure,
        "internal_failure",
        "unexpected failure",
    );
    let json = |fault: &Fault, id: &str| serde_json::to_string(&fault.envelope(id)).unwrap();
    let golden = |text: &'static str| text.trim_end().to_owned();
    assert_eq!(
        json(&invalid, "cid-golden-invalid"),
        golden(include_str!("fixtures/envelope-invalid-input.json"))
    );
    assert_eq!(
        json(&internal, "cid-golden-internal"),
        golden(include_str!("fixtures/envelope-internal-failure.json"))
    );
}

#[test]
fn the_envelope_shows_the_number() {
    let envelope = Fault::wc(WcCode::RateLimited, "11 requests in one second").envelope("id");
    assert_eq!(envelope.error, "WC-013: 11 requests in one second");
    assert_eq!(envelope.error_code, "rate_limited");
}

#[test]
fn problems_of_every_category_and_number_are_stable() {
    let numbered = WcCode::ALL
        .iter()
        .map(|&code| Fault::wc(code, "the message"));
    let all = Category::ALL.into_iter().map(of).chain(numbered);
    let lines: Vec<_> = all
        .map(|fault| serde_json::to_string(&fault.problem("/v1/jobs")).unwrap())
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_human_sees_number_message_and_next_action() {
    let text = [
        Fault::wc(WcCode::InvalidManifest, "spec.image is missing")
            .hint("name a module: wasm+cid:<cid>")
            .human(),
        Fault::wc(WcCode::CoordinatorUnreachable, "no answer").human(),
        Fault::usage("unknown subcommand 'fly'")
            .hint("worldcompute --help")
            .human(),
        of(Category::StateContention).human(),
    ];
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn a_message_cannot_steer_the_terminal_or_pose_as_another_line() {
    let hostile = "ok\nError: WC-015: forged\u{1b}[2J\r\u{202e}gnp.exe\u{9b}1m\u{0}\tend";
    let human = Fault::new(Category::NetworkTransient, "x", hostile)
        .hint("a\nError: b")
        .human();
    assert_eq!(
        human,
        "Error: ok\n  Error: WC-015: forged\\u{1b}[2J\\r\\u{202e}gnp.exe\\u{9b}1m\\u{0}\tend\n  hint: a\n  Error: b"
    );
}

#[derive(Debug)]
struct Link(&'static str, Option<Box<Link>>);

impl std::fmt::Display for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Link {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.1.as_deref().map(|link| link as _)
    }
}

#[test]
fn the_message_keeps_the_whole_chain_of_causes_once() {
    let chain = Link(
        "dial failed",
        Some(Box::new(Link(
            "tls: bad record",
            Some(Box::new(Link("bad record", None))),
        ))),
    );
    let fault =
        Fault::new(Category::NetworkTransient, "dial", "cannot reach the relay").caused_by(chain);
    assert_eq!(
        fault.message(),
        "cannot reach the relay: dial failed: tls: bad record"
    );
}

#[test]
fn a_fault_as_a_cause_keeps_its_number_in_the_text() {
    let fault = Fault::new(Category::InternalFailure, "x", "job 7")
        .caused_by(Fault::wc(WcCode::NotFound, "no lease"));
    assert_eq!(fault.message(), "job 7: WC-018: no lease");
}

#[test]
fn refusals_of_the_operating_system_have_codes_a_user_can_act_on() {
    use std::io::{Error, ErrorKind};
    let row = |kind: ErrorKind| {
        let fault = Fault::io("write ledger", &Error::from(kind));
        assert_eq!(fault.category(), Category::IoFailure);
        format!(
            "{} | {} | {}\n",
            fault.code(),
            fault.message(),
            fault.hint_text()
        )
    };
    let kinds = [
        ErrorKind::NotFound,
        ErrorKind::PermissionDenied,
        ErrorKind::AlreadyExists,
        ErrorKind::StorageFull,
        ErrorKind::QuotaExceeded,
        ErrorKind::FileTooLarge,
        ErrorKind::ReadOnlyFilesystem,
        ErrorKind::TimedOut,
    ];
    insta::assert_snapshot!(kinds.map(row).concat());
}

#[test]
fn a_hint_equal_to_the_default_is_the_default() {
    let fault = of(Category::InvalidInput);
    assert_eq!(
        fault
            .clone()
            .hint("first")
            .hint(Category::InvalidInput.hint()),
        fault
    );
}

#[test]
fn a_foreign_problem_becomes_a_fault_of_its_status() {
    let parse = |json: &str| Fault::from_problem(serde_json::from_str::<Problem>(json).unwrap());
    let proxy = parse(r#"{"type":"about:blank","title":"Bad Gateway","status":502}"#);
    assert_eq!(
        (proxy.category(), proxy.code(), proxy.message()),
        (
            Category::NetworkTransient,
            "network_transient",
            "Bad Gateway"
        )
    );
    let newer = parse(r#"{"status":404,"code":"WC-099","category":"cosmic_ray","detail":"gone"}"#);
    assert_eq!(
        (newer.category(), newer.number(), newer.message()),
        (Category::InvalidInput, None, "gone")
    );
    let bare = parse("{}");
    assert_eq!(
        (bare.category(), bare.message()),
        (Category::InternalFailure, "")
    );
    let number_only = parse(r#"{"status":500,"code":"WC-001","detail":"x"}"#);
    assert_eq!(number_only, Fault::wc(WcCode::InvalidManifest, "x"));
}

#[test]
fn statuses_without_a_category_map_to_the_closest_one() {
    let category = |status| {
        Fault::from_problem(Problem {
            status,
            ..Problem::default()
        })
        .category()
    };
    let expected = [
        (400, Category::InvalidInput),
        (401, Category::PolicyBlocked),
        (403, Category::PolicyBlocked),
        (404, Category::InvalidInput),
        (408, Category::NetworkTransient),
        (409, Category::StateContention),
        (429, Category::NetworkTransient),
        (500, Category::InternalFailure),
        (501, Category::InternalFailure),
        (502, Category::NetworkTransient),
        (504, Category::NetworkTransient),
        (200, Category::InternalFailure),
        (0, Category::InternalFailure),
    ];
    assert_eq!(
        expected.map(|(status, _)| (status, category(status))),
        expected
    );
}

#[test]
fn texts_from_a_server_are_taken_up_to_the_limit_and_cut_past_it() {
    let fault = |len: usize| {
        let text = "é".repeat(len);
        Fault::from_problem(Problem {
            detail: text.clone(),
            hint: text,
            ..Problem::default()
        })
    };
    let at = fault(Problem::MAX_TEXT / 2);
    assert_eq!(
        (at.message().len(), at.hint_text().len()),
        (Problem::MAX_TEXT, Problem::MAX_TEXT)
    );
    let past = fault(Problem::MAX_TEXT / 2 + 1);
    assert_eq!(
        (past.message().len(), past.hint_text().len()),
        (Problem::MAX_TEXT, Problem::MAX_TEXT)
    );
}

#[test]
fn a_code_from_a_server_is_taken_only_in_the_form_of_one() {
    let code = |slug: &str| {
        let kind = format!("https://worldcompute.org/errors/{slug}");
        Fault::from_problem(Problem {
            kind,
            ..Problem::default()
        })
        .code()
        .to_owned()
    };
    let longest = "a".repeat(Problem::MAX_CODE);
    assert_eq!(code(&longest), longest);
    for wrong in [
        "",
        "Upper",
        "a-b",
        "a/../b",
        "a\u{1b}[0m",
        &format!("{longest}a"),
    ] {
        assert_eq!(code(wrong), "internal_failure", "{wrong:?}");
    }
}

#[test]
fn a_place_goes_before_the_message_and_all_else_stays() {
    let fault = Fault::wc(WcCode::InvalidManifest, "broken")
        .hint("mend it")
        .because("reason", "remedy")
        .caused_by(std::io::Error::other("the disk"));
    let placed = fault.clone().within("layer 1");
    assert_eq!(placed.message(), "layer 1: broken: the disk");
    assert_eq!(
        (placed.number(), placed.code(), placed.hint_text()),
        (fault.number(), fault.code(), fault.hint_text())
    );
    assert_eq!(
        (placed.reason(), placed.remedy(), placed.category()),
        ("reason", "remedy", fault.category())
    );
}
