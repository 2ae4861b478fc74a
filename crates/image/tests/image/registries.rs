//! Registries, honest and not.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use worldcompute_fault::{Category, Fault, Result};
use worldcompute_image::registry::{
    MAX_ATTEMPTS, MAX_REDIRECTS, MAX_REFERENCE_BYTES, MAX_TOKEN_BYTES, Options,
};
use worldcompute_image::{Blob, Listed, Registry as Client};

use crate::made::{LAYER, MANIFEST, Made, Node, descriptor, layers, manifest, named, request};
use crate::server::{Asked, Registry, hang, send};

/// Long enough for a busy machine, short enough for the tests that wait for it.
const PATIENCE: Duration = Duration::from_millis(1_500);

const OPTIONS: Options = Options {
    allow_insecure_http: false,
    patience: PATIENCE,
    deadline: Duration::from_secs(60),
};

fn pull(node: &Node, reference: &str) -> Result<Listed> {
    let mut client = Client::new(reference.parse()?, OPTIONS)?;
    node.import(&mut client, &request())
}

fn refused(registry: &Registry) -> Fault {
    let node = Node::new();
    let fault = pull(&node, &registry.reference(":latest")).unwrap_err();
    node.assert_empty();
    fault
}

/// Whether a request is for a layer, and not for the configuration.
fn is_layer(made: &Made, asked: &Asked) -> bool {
    let layers = layers();
    asked.path.contains("/blobs/")
        && layers
            .iter()
            .any(|(packed, _)| asked.path.ends_with(&Blob::of(packed).to_string()))
        && !made.blobs.is_empty()
}

fn say(stream: &mut TcpStream, answer: &str) -> bool {
    drop(stream.write_all(answer.as_bytes()));
    true
}

fn redirect(stream: &mut TcpStream, to: &str) -> bool {
    say(
        stream,
        &format!(
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ),
    )
}

#[test]
fn an_image_is_pulled_by_tag_by_digest_and_out_of_an_index() {
    let mut made = Made::image();
    let by_tag = Registry::honest(&made);
    let node = Node::new();
    let listed = pull(&node, &by_tag.reference("")).unwrap();
    assert_eq!(listed.layer_count, 3);
    let digest = format!("@sha256:{}", listed.cid.digest());
    assert_eq!(
        pull(&Node::new(), &by_tag.reference(&digest)).unwrap().cid,
        listed.cid
    );
    made.add_image("arm64", &layers()[..1]);
    let index = Registry::honest(&made);
    assert_eq!(
        pull(&Node::new(), &index.reference(":latest")).unwrap().cid,
        listed.cid
    );
    let asked = &index.asked()[0];
    assert!(
        asked.header("accept").unwrap().contains(MANIFEST)
            && asked.header("authorization").is_none()
    );
}

#[test]
fn what_is_there_already_is_not_asked_for_again() {
    let registry = Registry::honest(&Made::image());
    let node = Node::new();
    pull(&node, &registry.reference("")).unwrap();
    let before = registry.count("/blobs/");
    pull(&node, &registry.reference("")).unwrap();
    assert_eq!(
        registry.count("/blobs/"),
        before + 1,
        "only the configuration comes again"
    );
}

#[test]
fn a_token_is_fetched_for_whom_it_is_for_and_shown_to_nobody_else() {
    let made = Made::image();
    let registry = Registry::twisted(&made, |asked, _, stream| {
        let host = asked.header("host").unwrap().to_owned();
        if asked.path.starts_with("/token?") {
            drop(send(
                stream,
                asked,
                "application/json",
                br#"{"token":"for-you"}"#,
            ));
            return true;
        }
        if asked.header("authorization") == Some("Bearer for-you") {
            return false;
        }
        say(
            stream,
            &format!(
                "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"http://{host}/token\",service=\"tests\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            ),
        )
    });
    pull(&Node::new(), &registry.reference("")).unwrap();
    let asked = registry.asked();
    let tokens: Vec<_> = asked
        .iter()
        .filter(|asked| asked.path.starts_with("/token"))
        .collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(
        tokens[0].path,
        "/token?scope=repository%3Asome%2Fimage%3Apull&service=tests"
    );
    assert_eq!(tokens[0].header("authorization"), None);
}

#[test]
fn a_registry_that_always_asks_for_a_token_is_left() {
    let registry = Registry::twisted(&Made::image(), |asked, _, stream| {
        let host = asked.header("host").unwrap().to_owned();
        if asked.path.starts_with("/token") {
            return send(stream, asked, "application/json", br#"{"token":"again"}"#).is_ok();
        }
        say(
            stream,
            &format!(
                "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"http://{host}/token\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            ),
        )
    });
    let fault = refused(&registry);
    assert_eq!(
        (fault.code(), fault.retryable()),
        ("registry_denied", false)
    );
    assert_eq!(registry.asked().len(), 3);
}

#[test]
fn tokens_that_are_none_and_realms_elsewhere_are_refused() {
    let answer = |answer: String| {
        Registry::twisted(&Made::image(), move |asked, _, stream| {
            let host = asked.header("host").unwrap().to_owned();
            if asked.path.starts_with("/token") {
                return send(stream, asked, "application/json", answer.as_bytes()).is_ok();
            }
            say(
                stream,
                &format!(
                    "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"http://{host}/token\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                ),
            )
        })
    };
    let long = format!(r#"{{"token":"{}"}}"#, "t".repeat(MAX_TOKEN_BYTES + 1));
    for bad in ["{}", "", r#"{"token":"a\r\nX: y"}"#, &long] {
        assert_eq!(
            refused(&answer(bad.to_owned())).code(),
            "registry_token_invalid",
            "{bad:.40}"
        );
    }
    assert_eq!(
        refused(&answer(" ".repeat(100_000))).code(),
        "image_too_large"
    );
    for (realm, code) in [
        ("http://auth.example/token", "registry_redirect_refused"),
        ("https://10.0.0.1/token", "registry_redirect_private"),
        (
            "https://169.254.169.254/latest/meta-data",
            "registry_redirect_private",
        ),
        (
            "https://user:pass@auth.example/",
            "registry_redirect_refused",
        ),
        ("file:///etc/passwd", "registry_redirect_refused"),
        ("token", "registry_token_invalid"),
    ] {
        let registry = Registry::twisted(&Made::image(), move |_, _, stream| {
            say(
                stream,
                &format!(
                    "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"{realm}\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                ),
            )
        });
        assert_eq!(refused(&registry).code(), code, "{realm}");
    }
    let silent = Registry::twisted(&Made::image(), |_, _, stream| {
        say(
            stream,
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        )
    });
    assert_eq!(refused(&silent).code(), "registry_denied");
}

#[test]
fn redirects_within_the_registry_are_followed_so_far_and_no_further() {
    let made = Made::image();
    let of = |hops: usize| {
        Registry::twisted(&made, move |asked, _, stream| {
            let (path, hop) = asked.path.split_once("?hop=").unwrap_or((&asked.path, "0"));
            let hop: usize = hop.parse().unwrap();
            if hop < hops && path.contains("/manifests/") {
                return redirect(stream, &format!("{path}?hop={}", hop + 1));
            }
            let plain = Asked {
                path: path.to_owned(),
                headers: vec![],
            };
            path != asked.path && path.contains("/manifests/") && {
                let made = Made::image();
                let digest = made.entries[0]["digest"].as_str().unwrap()[7..]
                    .parse()
                    .unwrap();
                send(stream, &plain, MANIFEST, &made.blobs[&digest]).is_ok()
            }
        })
    };
    pull(&Node::new(), &of(MAX_REDIRECTS).reference("")).unwrap();
    assert_eq!(
        refused(&of(MAX_REDIRECTS + 1)).code(),
        "registry_redirect_refused"
    );
    let endless = of(usize::MAX);
    assert_eq!(refused(&endless).code(), "registry_redirect_refused");
    assert_eq!(endless.asked().len(), MAX_REDIRECTS + 1);
}

#[test]
fn a_registry_does_not_send_this_machine_into_its_own_network() {
    let victim = Registry::honest(&Made::image());
    let port = victim
        .reference("")
        .split('/')
        .next()
        .unwrap()
        .split(':')
        .nth(1)
        .unwrap()
        .to_owned();
    let places = [
        (
            format!("http://127.0.0.1:{port}/"),
            "registry_redirect_refused",
        ),
        (
            format!("https://127.0.0.1:{port}/"),
            "registry_redirect_private",
        ),
        (
            format!("https://localhost:{port}/"),
            "registry_redirect_private",
        ),
        (
            format!("https://2130706433:{port}/"),
            "registry_redirect_private",
        ),
        (
            format!("https://[::ffff:127.0.0.1]:{port}/"),
            "registry_redirect_private",
        ),
        (
            "https://169.254.169.254/latest/".to_owned(),
            "registry_redirect_private",
        ),
        ("https://10.0.0.1/".to_owned(), "registry_redirect_private"),
        (
            "http://registry.example/".to_owned(),
            "registry_redirect_refused",
        ),
        (
            "gopher://registry.example/".to_owned(),
            "registry_redirect_refused",
        ),
        (
            "https://user@registry.example/".to_owned(),
            "registry_redirect_refused",
        ),
    ];
    for (place, code) in places {
        let to = place.clone();
        let registry = Registry::twisted(&Made::image(), move |_, _, stream| redirect(stream, &to));
        let fault = refused(&registry);
        assert_eq!(
            (fault.code(), fault.category()),
            (code, Category::NetworkPermanent),
            "{place}"
        );
    }
    assert_eq!(victim.asked().len(), 0);
}

#[test]
fn failures_that_pass_are_asked_again_and_others_are_not() {
    for status in ["429 Too Many", "502 Bad", "503 Unavailable", "504 Late"] {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let twice = answer.clone();
        let registry = Registry::twisted(&Made::image(), move |_, number, stream| {
            number < 2 && say(stream, &twice)
        });
        pull(&Node::new(), &registry.reference("")).unwrap();
        let registry = Registry::twisted(&Made::image(), move |_, _, stream| say(stream, &answer));
        let fault = refused(&registry);
        assert_eq!(
            (fault.code(), fault.retryable()),
            ("registry_unavailable", true),
            "{status}"
        );
        assert_eq!(registry.asked().len(), MAX_ATTEMPTS as usize);
    }
    for (status, code) in [
        ("404 No", "image_not_found"),
        ("403 No", "registry_denied"),
        ("500 No", "registry_refused"),
        ("204 No", "registry_refused"),
    ] {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let registry = Registry::twisted(&Made::image(), move |_, _, stream| say(stream, &answer));
        let fault = refused(&registry);
        assert_eq!((fault.code(), fault.retryable()), (code, false), "{status}");
        assert_eq!(registry.asked().len(), 1);
    }
}

#[test]
fn a_manifest_that_breaks_off_is_asked_for_again() {
    let cut = |times: usize| {
        Registry::twisted(&Made::image(), move |asked, number, stream| {
            asked.path.contains("/manifests/")
                && number < times
                && say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")
        })
    };
    pull(&Node::new(), &cut(2).reference("")).unwrap();
    let fault = refused(&cut(3));
    assert_eq!(
        (fault.code(), fault.retryable()),
        ("registry_disconnected", true)
    );
}

#[test]
fn a_part_that_nobody_asked_for_is_refused() {
    let registry = Registry::twisted(&Made::image(), |asked, _, stream| {
        asked.path.contains("/blobs/")
            && say(
                stream,
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
            )
    });
    assert_eq!(refused(&registry).code(), "registry_refused");
}

#[test]
fn a_transfer_that_breaks_off_goes_on_where_it_stopped() {
    let made = Made::image();
    let cut = |knows_ranges: bool| {
        let images = made.clone();
        Registry::twisted(&made, move |asked, number, stream| {
            if !is_layer(&images, asked) {
                return false;
            }
            let digest = asked
                .path
                .rsplit_once("sha256:")
                .unwrap()
                .1
                .parse()
                .unwrap();
            let bytes = &images.blobs[&digest];
            let plain = Asked {
                headers: vec![],
                ..asked.clone()
            };
            if number == 0 {
                // As long as it should be, and a third of it.
                drop(write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                    bytes.len()
                ));
                return stream.write_all(&bytes[..bytes.len() / 3]).is_ok();
            }
            send(
                stream,
                if knows_ranges { asked } else { &plain },
                "application/octet-stream",
                bytes,
            )
            .is_ok()
        })
    };
    for knows_ranges in [true, false] {
        let registry = cut(knows_ranges);
        let node = Node::new();
        let listed = pull(&node, &registry.reference("")).unwrap();
        node.images.inspect(&listed.cid.to_string()).unwrap();
        let ranges: Vec<_> = registry
            .asked()
            .into_iter()
            .filter_map(|asked| asked.header("range").map(str::to_owned))
            .collect();
        assert_eq!(ranges.len(), 3, "{ranges:?}");
        assert!(ranges.iter().all(|range| range != "bytes=0-"), "{ranges:?}");
    }
}

#[test]
fn a_continuation_from_elsewhere_is_refused() {
    let images = Made::image();
    let registry = Registry::twisted(&images.clone(), move |asked, number, stream| {
        if !is_layer(&images, asked) {
            return false;
        }
        match number {
            0 => say(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: 2048\r\n\r\n0123456789",
            ),
            _ => say(
                stream,
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-9/2048\r\nContent-Length: 5\r\nConnection: close\r\n\r\n56789",
            ),
        }
    });
    assert_eq!(refused(&registry).code(), "registry_range_invalid");
}

#[test]
fn a_registry_that_lies_about_lengths_is_found() {
    let images = Made::image();
    let always_short = {
        let images = images.clone();
        Registry::twisted(&images.clone(), move |asked, _, stream| {
            is_layer(&images, asked)
                && say(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Length: 2048\r\n\r\n0123456789",
                )
        })
    };
    let fault = refused(&always_short);
    assert_eq!(
        (fault.code(), fault.retryable()),
        ("registry_disconnected", true)
    );
    let ends_early = {
        let images = images.clone();
        Registry::twisted(&images.clone(), move |asked, _, stream| {
            is_layer(&images, asked)
                && say(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n0123456789",
                )
        })
    };
    assert_eq!(refused(&ends_early).code(), "size_mismatch");
    let endless = {
        let images = images.clone();
        Registry::twisted(&images.clone(), move |asked, _, stream| {
            is_layer(&images, asked) && {
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"));
                while stream
                    .write_all(format!("1000\r\n{}\r\n", "x".repeat(0x1000)).as_bytes())
                    .is_ok()
                {}
                true
            }
        })
    };
    assert_eq!(refused(&endless).code(), "size_mismatch");
    let other = Registry::twisted(&images.clone(), move |asked, _, stream| {
        is_layer(&images, asked) && {
            let digest = asked
                .path
                .rsplit_once("sha256:")
                .unwrap()
                .1
                .parse()
                .unwrap();
            let mut bytes = images.blobs[&digest].clone();
            bytes[9] ^= 1;
            send(stream, asked, "application/octet-stream", &bytes).is_ok()
        }
    });
    assert_eq!(refused(&other).code(), "digest_mismatch");
}

#[test]
fn endless_manifests_and_headers_are_cut_off() {
    let manifest = Registry::twisted(&Made::image(), |asked, _, stream| {
        asked.path.contains("/manifests/") && {
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"));
            while stream
                .write_all(format!("10000\r\n{}\r\n", " ".repeat(0x10000)).as_bytes())
                .is_ok()
            {}
            true
        }
    });
    assert_eq!(refused(&manifest).code(), "image_too_large");
    let header = Registry::twisted(&Made::image(), |_, _, stream| {
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\n"));
        let mut number = 0;
        while stream
            .write_all(format!("X-{number}: {}\r\n", "x".repeat(1000)).as_bytes())
            .is_ok()
        {
            number += 1;
        }
        true
    });
    let fault = refused(&header);
    assert!(!fault.retryable(), "{fault:?}");
}

#[test]
fn a_registry_that_hangs_is_left() {
    let head = Registry::twisted(&Made::image(), |_, _, stream| {
        hang(stream);
        true
    });
    let fault = refused(&head);
    assert_eq!(
        (fault.code(), fault.retryable()),
        ("registry_timeout", true)
    );
    assert_eq!(head.asked().len(), MAX_ATTEMPTS as usize);
    let images = Made::image();
    let body = Registry::twisted(&images.clone(), move |asked, _, stream| {
        is_layer(&images, asked) && {
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2048\r\n\r\n01234"));
            hang(stream);
            true
        }
    });
    assert_eq!(refused(&body).code(), "registry_timeout");
}

#[test]
fn a_registry_that_trickles_is_left() {
    let trickle = |stream: &mut TcpStream| {
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n"));
        // More often than the registry may be silent, until the client has had enough.
        drop(stream.set_read_timeout(Some(Duration::from_millis(20))));
        while stream.write_all(b" ").is_ok() && stream.read(&mut [0; 1]).is_err() {}
        true
    };
    let manifest = Registry::twisted(&Made::image(), move |_, _, stream| trickle(stream));
    let token = Registry::twisted(&Made::image(), move |asked, _, stream| {
        let host = asked.header("host").unwrap();
        match asked.path.starts_with("/token") {
            true => trickle(stream),
            false => say(
                stream,
                &format!(
                    "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"http://{host}/token\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                ),
            ),
        }
    });
    for registry in [manifest, token] {
        let options = Options {
            deadline: Duration::from_millis(300),
            ..OPTIONS
        };
        let reference = registry.reference("").parse().unwrap();
        let mut client = Client::new(reference, options).unwrap();
        let fault = Node::new().import(&mut client, &request()).unwrap_err();
        assert_eq!(
            (fault.code(), fault.retryable()),
            ("registry_too_slow", false)
        );
    }
}

#[test]
fn a_refused_redirect_is_told_without_its_secrets() {
    for place in [
        "https://user:s3cret@registry.example:5000/there?sig=s3cret#s3cret",
        "http://s3cret@registry.example:5000/there?sig=s3cret",
        "https://10.0.0.1:5000/there?sig=s3cret",
    ] {
        let registry =
            Registry::twisted(&Made::image(), move |_, _, stream| redirect(stream, place));
        let told = format!("{:?}", refused(&registry));
        assert!(
            told.contains(":5000/there") && !told.contains("s3cret"),
            "{told}"
        );
    }
}

#[test]
fn selecting_in_a_registry_by_a_name_is_refused() {
    let mut made = Made::image();
    let single = Registry::honest(&made);
    made.add_image("arm64", &layers()[..1]);
    for registry in [single, Registry::honest(&made)] {
        let reference = registry.reference("").parse().unwrap();
        let mut client = Client::new(reference, OPTIONS).unwrap();
        let fault = Node::new().import(&mut client, &named("some")).unwrap_err();
        assert_eq!(fault.code(), "source_not_a_list");
    }
}

#[test]
fn a_manifest_that_is_not_the_one_that_was_named_is_refused() {
    let mut made = Made::image();
    let other = made.add_image("arm64", &layers()[..1]);
    let registry = Registry::twisted(&made.clone(), move |asked, _, stream| {
        asked.path.contains("/manifests/sha256:")
            && send(stream, asked, MANIFEST, &made.blobs[&other.digest()]).is_ok()
    });
    let digest = Blob::of(b"something else").to_string();
    let node = Node::new();
    let fault = pull(&node, &registry.reference(&format!("@{digest}"))).unwrap_err();
    assert_eq!(fault.code(), "digest_mismatch");
    node.assert_empty();
}

#[test]
fn a_media_type_that_does_not_fit_is_refused_and_one_that_says_nothing_is_not() {
    let of = |kind: &'static str| {
        let made = Made::image();
        Registry::twisted(&made.clone(), move |asked, _, stream| {
            asked.path.ends_with("/manifests/latest") && {
                let digest = made.entries[0]["digest"].as_str().unwrap()[7..]
                    .parse()
                    .unwrap();
                send(stream, asked, kind, &made.blobs[&digest]).is_ok()
            }
        })
    };
    pull(&Node::new(), &of("text/plain; charset=utf-8").reference("")).unwrap();
    assert_eq!(
        refused(&of(crate::made::INDEX)).code(),
        "invalid_manifest_document"
    );
    assert_eq!(
        refused(&of(
            "application/vnd.docker.distribution.manifest.v1+prettyjws"
        ))
        .code(),
        "unsupported_media_type"
    );
}

#[test]
fn nobody_there_is_told_as_that() {
    let gone = Registry::honest(&Made::image());
    let reference = gone.reference("");
    drop(gone);
    let fault = pull(&Node::new(), &reference).unwrap_err();
    assert_eq!(
        (fault.code(), fault.retryable()),
        ("registry_disconnected", true)
    );
    let fault = pull(&Node::new(), "registry.invalid/some/image").unwrap_err();
    assert_eq!(
        (fault.code(), fault.retryable()),
        ("registry_unreachable", false)
    );
}

#[test]
fn references_are_read_as_docker_reads_them() {
    use worldcompute_image::Reference;
    let shown = |text: &str| text.parse::<Reference>().unwrap().to_string();
    assert_eq!(shown("busybox"), "docker.io/library/busybox:latest");
    assert_eq!(shown("docker.io/library/x:tag"), "docker.io/library/x:tag");
    assert_eq!(shown("host:5000/name"), "host:5000/name:latest");
    let digest = Blob::of(b"x").to_string();
    assert_eq!(
        shown(&format!("host:5000/name@{digest}")),
        format!("host:5000/name@{digest}")
    );
    for text in [
        "",
        "UPPER/case",
        "host:port/x",
        "a b",
        "x@sha256:12",
        "../x",
        "x:tag:tag",
        "http://host/x",
        "x@md5:12",
        "user@host/x",
    ] {
        let fault = text.parse::<Reference>().unwrap_err();
        assert!(
            ["invalid_reference", "unsupported_digest"].contains(&fault.code()),
            "{text}"
        );
    }
    let long = format!("host/{}", "x".repeat(MAX_REFERENCE_BYTES));
    assert_eq!(
        long.parse::<Reference>().unwrap_err().code(),
        "invalid_reference"
    );
    let sha512 = format!("x@sha512:{}", "0".repeat(128));
    assert_eq!(
        sha512.parse::<Reference>().unwrap_err().code(),
        "unsupported_digest"
    );
}

#[test]
fn an_image_that_claims_what_no_registry_can_send_is_refused_before_it_is_asked_for() {
    let mut made = Made::image();
    let config = made
        .blobs
        .values()
        .next()
        .map(|bytes| Blob::of(bytes))
        .unwrap();
    let giant = Blob::new(Blob::of(b"x").digest(), u64::MAX);
    let mut document = manifest(&config, &[]);
    document["layers"] = serde_json::json!([descriptor(LAYER, &giant)]);
    made.entries.clear();
    made.add_manifest(&document, Some("amd64"));
    let registry = Registry::honest(&made);
    assert!(["image_too_large", "invalid_manifest_document"].contains(&refused(&registry).code()));
    assert_eq!(registry.count("/blobs/"), 0);
}
