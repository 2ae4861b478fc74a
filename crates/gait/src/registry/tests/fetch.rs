//! Where packs come from, and how failures of the network are met.

use super::*;

#[test]
fn a_passing_failure_is_tried_again_with_growing_deterministic_delays() {
    let bench = Bench::new();
    let pack = signed(|_| {});
    let transport = Scripted::new([Err(Failure::Status(503)), Err(Failure::Timeout), Ok(pack)]);
    let installed = bench.install(&request(remote()), &transport).unwrap();
    assert_eq!(installed.manifest.name(), "base-low");
    let delays = bench.pause.0.lock().unwrap().clone();
    assert_eq!(
        delays,
        [Duration::from_millis(225), Duration::from_millis(450)]
    );
}

#[test]
fn each_failure_of_the_network_has_its_own_code_and_only_passing_ones_are_retried() {
    let broken = || Failure::Broken("connection reset".to_owned());
    let unknown = || Failure::Unreachable("unknown host".to_owned());
    for (failure, attempts, code, category) in [
        (
            Failure::Status(429),
            3,
            "source_unavailable",
            Category::NetworkTransient,
        ),
        (
            Failure::Status(502),
            3,
            "source_unavailable",
            Category::NetworkTransient,
        ),
        (
            Failure::Status(503),
            3,
            "source_unavailable",
            Category::NetworkTransient,
        ),
        (
            Failure::Status(504),
            3,
            "source_unavailable",
            Category::NetworkTransient,
        ),
        (
            Failure::Timeout,
            3,
            "source_timeout",
            Category::NetworkTransient,
        ),
        (
            broken(),
            3,
            "source_disconnected",
            Category::NetworkTransient,
        ),
        (
            Failure::Status(302),
            1,
            "source_redirected",
            Category::NetworkPermanent,
        ),
        (
            Failure::Status(404),
            1,
            "source_refused",
            Category::NetworkPermanent,
        ),
        (
            Failure::Status(500),
            1,
            "source_refused",
            Category::NetworkPermanent,
        ),
        (
            Failure::TooLarge,
            1,
            "source_too_large",
            Category::NetworkPermanent,
        ),
        (
            unknown(),
            1,
            "source_unreachable",
            Category::NetworkPermanent,
        ),
        (
            Failure::Untrusted("unknown issuer".to_owned()),
            1,
            "source_untrusted",
            Category::NetworkPermanent,
        ),
        (
            Failure::NoTrustRoots("none".to_owned()),
            1,
            "trust_roots_missing",
            Category::DependencyMissing,
        ),
    ] {
        let bench = Bench::new();
        let transport = Scripted::new(vec![Err(failure.clone()); 3]);
        let fault = bench.install(&request(remote()), &transport).unwrap_err();
        assert_eq!(
            (fault.code(), fault.category()),
            (code, category),
            "{failure:?}"
        );
        assert_eq!(fault.retryable(), attempts > 1);
        assert_eq!(transport.left(), 3 - attempts, "{failure:?}");
        assert!(bench.is_untouched());
    }
}

#[test]
fn attempts_and_delays_are_bounded() {
    let ms = jiff::SignedDuration::from_millis;
    for (attempts, delay) in [
        (0, ms(1)),
        (-1, ms(1)),
        (11, ms(1)),
        (3, ms(-1)),
        (3, ms(60_001)),
    ] {
        assert_eq!(
            Retry::new(attempts, delay).unwrap_err().code(),
            "retry_out_of_bounds"
        );
    }
    let retry = Retry::new(10, ms(60_000)).unwrap();
    let pause = Noted::default();
    let transport = Scripted::new(vec![Err(Failure::Timeout); 10]);
    retry
        .fetch(&"https://r.example/".parse().unwrap(), &transport, &pause)
        .unwrap_err();
    let delays = pause.0.lock().unwrap().clone();
    assert_eq!(delays.len(), 9);
    assert!(delays.iter().all(|delay| *delay <= Duration::from_mins(1)));
}

#[test]
fn each_refusal_of_a_source_has_its_own_code() {
    let hosts = |hosts: &[&str]| SourceRules {
        allow_hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        allow_insecure_http: false,
    };
    let allowed = hosts(&["r.example", "[::1]", "127.0.0.1"]);
    for (source, rules, code) in [
        ("http://r.example/p", &allowed, "insecure_source"),
        ("HTTP://r.example/p", &allowed, "insecure_source"),
        (
            "https://r.example/p",
            &hosts(&[]),
            "host_allowlist_required",
        ),
        ("https://evil.example/p", &allowed, "host_not_allowed"),
        (
            "https://r.example.evil.example/p",
            &allowed,
            "host_not_allowed",
        ),
        (
            "https://r.example@evil.example/p",
            &allowed,
            "source_malformed",
        ),
        (
            "https://user:secret@r.example/p",
            &allowed,
            "source_malformed",
        ),
        ("https://", &allowed, "source_malformed"),
        (
            "https://r.example\\@evil.example/",
            &allowed,
            "source_malformed",
        ),
        ("ftp://r.example/p", &allowed, "source_malformed"),
        ("file:///etc/passwd", &allowed, "source_malformed"),
        ("", &allowed, "source_malformed"),
    ] {
        let fault = Source::parse(source, rules).unwrap_err();
        assert_eq!(
            (fault.code(), fault.gait_exit_code()),
            (code, 6),
            "{source}"
        );
        assert!(!fault.human().contains("secret"));
    }
    for source in [
        "https://R.EXAMPLE:8443/p",
        "https://[::1]/p",
        "https://127.0.0.1/p",
    ] {
        Source::parse(source, &allowed).unwrap();
    }
    assert_eq!(
        Source::parse("./p.json", &allowed).unwrap(),
        Source::File("./p.json".into())
    );
}

#[test]
fn a_token_in_the_query_of_an_address_is_not_shown() {
    let rules = SourceRules {
        allow_hosts: vec!["r.example".to_owned()],
        allow_insecure_http: false,
    };
    let source = Source::parse("https://r.example/p?token=secret", &rules).unwrap();
    assert_eq!(source.shown(), "https://r.example/p");
}
