//! Messages at their limits, and bytes that are none.

use std::fmt::Debug;

use libp2p::Multiaddr;
use proptest::prelude::*;
use worldcompute_fault::WcCode;
use worldcompute_proof::Cid;

use super::*;

fn an_offer() -> OfferRequest {
    OfferRequest {
        task_id: "t".repeat(MAX_ID),
        manifest_cid: Cid::raw(b"manifest"),
        min_cpu_cores: 1,
        min_memory_mb: 2,
        needs_gpu: true,
        max_wallclock_ms: 3,
        classes: vec!["c".repeat(MAX_NAME); MAX_CLASSES],
    }
}

fn a_dispatch() -> DispatchRequest {
    DispatchRequest {
        lease_id: "l".to_owned(),
        job_id: "j".to_owned(),
        task_id: "t".to_owned(),
        task_index: 7,
        attempt: 1,
        manifest: vec![1, 2, 3],
        inline_inputs: vec![
            NamedBytes {
                name: "n".to_owned(),
                bytes: vec![0; 3]
            };
            MAX_INPUTS
        ],
        trace: vec![4],
        correlation_id: "c".to_owned(),
        inspected: false,
    }
}

fn a_reply() -> DispatchReply {
    let output = OutputBlob {
        name: "o".to_owned(),
        cid: Cid::raw(b"o"),
        size: 1,
        inline: None,
    };
    DispatchReply {
        task_id: "t".to_owned(),
        status: DispatchStatus::Preempted,
        output: vec![1],
        output_cid: None,
        duration_ms: 5,
        error: Some("e".repeat(MAX_TEXT)),
        receipt: vec![2],
        trace: vec![3],
        outputs: vec![output; MAX_OUTPUTS],
    }
}

fn a_capacity() -> Capacity {
    Capacity {
        cores: 1,
        memory_mb: 2,
        load: 0.5,
        classes: vec!["scientific".to_owned()],
        paused: false,
        addresses: vec!["/ip4/10.0.0.1/tcp/1".parse().unwrap(); MAX_ADDRESSES],
        slots: 3,
        images: false,
    }
}

const MANY: usize = 1 << 20;

fn round<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let bytes = encode(value, MANY).unwrap();
    assert_eq!(decode::<T>(&bytes, MANY).unwrap(), *value);
}

/// `value` is past a limit: it is not sent, and when a peer sends it all the same (`bytes`), not read.
fn refused<T: Serialize + DeserializeOwned + Debug>(value: &T, bytes: &[u8], why: &str) {
    for error in [
        encode(value, MANY).unwrap_err(),
        decode::<T>(bytes, MANY).unwrap_err(),
    ] {
        assert!(error.to_string().contains(why), "{error}");
    }
}

/// The bytes of `value` without the limits of its fields, as somebody else's program would write them.
fn unbounded<T: Serialize>(value: &T, field: &str, to: impl Into<ciborium::Value>) -> Vec<u8> {
    let mut value = ciborium::Value::serialized(value).unwrap();
    set(&mut value, field, &to.into());
    let mut bytes = Vec::new();
    ciborium::into_writer(&value, &mut bytes).unwrap();
    bytes
}

fn set(value: &mut ciborium::Value, field: &str, to: &ciborium::Value) {
    let Some(entries) = value.as_map_mut() else {
        return;
    };
    for (key, value) in entries {
        if key.as_text() == Some(field) {
            *value = to.clone();
        } else {
            set(value, field, to);
        }
    }
}

fn many<T: Serialize>(item: &T, count: usize) -> ciborium::Value {
    vec![ciborium::Value::serialized(item).unwrap(); count].into()
}

#[test]
fn every_message_survives_its_encoding_at_its_limits() {
    round(&an_offer());
    round(&OfferReply {
        accepted: false,
        load: 0.1,
        reason: Some("r".repeat(MAX_TEXT)),
    });
    round(&a_dispatch());
    round(&a_reply());
    round(&LeaseMessage::Heartbeat {
        lease_id: "l".repeat(MAX_ID),
    });
    round(&LeaseMessage::Cancel {
        lease_id: "l".to_owned(),
    });
    round(&LeaseReply { known: true });
    round(&ContentRequest {
        cid: Cid::raw(b"x"),
        offset: u64::MAX,
        len: u32::MAX,
    });
    round(&ContentReply {
        total: 3,
        bytes: vec![0; MAX_CHUNK / 2],
    });
    round(&Announcement {
        sequence: u64::MAX,
        capacity: Some(a_capacity()),
    });
    round(&Announcement {
        sequence: 0,
        capacity: None,
    });
    round(&a_relay_s_word());
    round(&RelaysRequest {});
    round(&relays_told(MAX_RELAYS));
}

/// The longest address that is ever dialled.
fn a_long_address() -> Multiaddr {
    format!("/dns4/{}/tcp/443/tls/ws", "a".repeat(490))
        .parse()
        .unwrap()
}

fn a_relay_s_word() -> RelayAnnouncement {
    RelayAnnouncement {
        sequence: u64::MAX,
        addresses: vec![a_long_address(); MAX_RELAY_ADDRESSES],
    }
}

fn relays_told(count: usize) -> RelaysReply {
    let record = RelayRecord {
        peer: worldcompute_proof::SigningKey::from_seed([1; 32]).peer_id(),
        addresses: vec![a_long_address(); MAX_RELAY_ADDRESSES],
    };
    RelaysReply {
        relays: vec![record; count],
    }
}

#[test]
fn relays_and_their_addresses_are_bounded_and_the_most_of_them_fit() {
    let told = relays_told(MAX_RELAYS);
    assert!(encode(&Answer::Ok(told.clone()), PeerExchange::MAX_ANSWER).is_ok());
    assert!(encode(&a_relay_s_word(), MAX_RELAY_ANNOUNCEMENT).is_ok());
    let bytes = unbounded(&told, "relays", many(&told.relays[0], MAX_RELAYS + 1));
    refused(&relays_told(MAX_RELAYS + 1), &bytes, "more than 8 items");
    let mut word = a_relay_s_word();
    let address = a_long_address().to_vec();
    let bytes = unbounded(&word, "addresses", many(&address, MAX_RELAY_ADDRESSES + 1));
    word.addresses.push(a_long_address());
    refused(&word, &bytes, "more than 8 items");
}

#[test]
fn texts_past_their_limits_are_neither_sent_nor_read() {
    let (id, name, text) = (
        "t".repeat(MAX_ID + 1),
        "n".repeat(MAX_NAME + 1),
        "e".repeat(MAX_TEXT + 1),
    );
    let bytes = unbounded(&an_offer(), "task_id", id.clone());
    refused(
        &OfferRequest {
            task_id: id.clone(),
            ..an_offer()
        },
        &bytes,
        "longer than 128 bytes",
    );
    let bytes = unbounded(&an_offer(), "classes", many(&name, 1));
    refused(
        &OfferRequest {
            classes: vec![name],
            ..an_offer()
        },
        &bytes,
        "longer than 256 bytes",
    );
    let bytes = unbounded(&a_reply(), "error", text.clone());
    refused(
        &DispatchReply {
            error: Some(text),
            ..a_reply()
        },
        &bytes,
        "longer than 8192 bytes",
    );
    let lease = LeaseMessage::Cancel {
        lease_id: "l".to_owned(),
    };
    let bytes = unbounded(&lease, "lease_id", id.clone());
    refused(
        &LeaseMessage::Cancel { lease_id: id },
        &bytes,
        "longer than 128 bytes",
    );
}

#[test]
fn lists_past_their_limits_are_neither_sent_nor_read() {
    let bytes = unbounded(&an_offer(), "classes", many(&"", MAX_CLASSES + 1));
    let classes = vec![String::new(); MAX_CLASSES + 1];
    refused(
        &OfferRequest {
            classes,
            ..an_offer()
        },
        &bytes,
        "more than 32 items",
    );
    let mut dispatch = a_dispatch();
    let bytes = unbounded(
        &dispatch,
        "inline_inputs",
        many(&dispatch.inline_inputs[0], MAX_INPUTS + 1),
    );
    dispatch
        .inline_inputs
        .push(dispatch.inline_inputs[0].clone());
    refused(&dispatch, &bytes, "more than 256 items");
    let mut reply = a_reply();
    let bytes = unbounded(&reply, "outputs", many(&reply.outputs[0], MAX_OUTPUTS + 1));
    reply.outputs.push(reply.outputs[0].clone());
    refused(&reply, &bytes, "more than 256 items");
    let mut capacity = a_capacity();
    capacity
        .addresses
        .push("/ip4/10.0.0.1/tcp/2".parse().unwrap());
    let within = Announcement {
        sequence: 0,
        capacity: Some(a_capacity()),
    };
    let bytes = unbounded(
        &within,
        "addresses",
        many(&capacity.addresses[0].to_vec(), MAX_ADDRESSES + 1),
    );
    refused(
        &Announcement {
            sequence: 0,
            capacity: Some(capacity),
        },
        &bytes,
        "more than 16 items",
    );
}

#[test]
fn a_frame_is_refused_past_its_limit_on_both_sides() {
    let bytes = encode(&an_offer(), MANY).unwrap();
    assert!(matches!(
        encode(&an_offer(), bytes.len() - 1),
        Err(Malformed::TooLong(_))
    ));
    assert!(decode::<OfferRequest>(&bytes, bytes.len()).is_ok());
    assert!(matches!(
        decode::<OfferRequest>(&bytes, bytes.len() - 1),
        Err(Malformed::TooLong(_))
    ));
}

#[test]
fn a_frame_holds_one_message_and_nothing_after_it() {
    let mut bytes = encode(&an_offer(), MANY).unwrap();
    bytes.push(0);
    assert!(matches!(
        decode::<OfferRequest>(&bytes, MANY),
        Err(Malformed::Trailing(1))
    ));
    assert!(decode::<OfferRequest>(&[], MANY).is_err());
}

#[test]
fn a_field_given_twice_is_refused() {
    let bytes = encode(&LeaseReply { known: true }, MANY).unwrap();
    let twice = [&[0xa2], &bytes[1..], &bytes[1..]].concat();
    assert!(decode::<LeaseReply>(&bytes, MANY).is_ok());
    assert!(decode::<LeaseReply>(&twice, MANY).is_err());
}

#[test]
fn claims_of_length_and_depth_cost_nothing() {
    // A byte string, an array and a map of 2^62 items, and arrays within arrays.
    let claims = [
        [0x5b, 0x40, 0, 0, 0, 0, 0, 0, 0],
        [0x9b, 0x40, 0, 0, 0, 0, 0, 0, 0],
        [0xbb, 0x40, 0, 0, 0, 0, 0, 0, 0],
    ];
    for claim in claims {
        assert!(decode::<ContentReply>(&claim, MANY).is_err());
        assert!(decode::<Announcement>(&claim, MANY).is_err());
    }
    let nested = vec![0x81; MANY];
    assert!(decode::<OfferRequest>(&nested, MANY).is_err());
    let mut unknown_field = vec![0xa1, 0x61, b'x'];
    unknown_field.extend(vec![0x81; MANY - 3]);
    assert!(decode::<LeaseReply>(&unknown_field, MANY).is_err());
}

#[test]
fn a_class_that_could_steer_a_terminal_is_no_announcement() {
    let check = |class: &str| {
        let capacity = Capacity {
            classes: vec!["scientific".to_owned(), class.to_owned()],
            ..a_capacity()
        };
        let capacity = Some(capacity);
        Announcement {
            sequence: 0,
            capacity,
        }
        .check()
    };
    for class in [
        "\u{1b}[2J",
        "a\nb",
        "a b",
        "\u{9b}31m",
        "\u{202e}",
        "\u{7f}",
        "\0",
    ] {
        assert!(check(class).is_err(), "{class:?}");
    }
    assert!(check("public-good-ml").is_ok());
}

#[test]
fn a_load_outside_of_its_range_is_no_announcement() {
    for load in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        let capacity = Capacity {
            load,
            ..a_capacity()
        };
        assert!(
            Announcement {
                sequence: 0,
                capacity: Some(capacity)
            }
            .check()
            .is_err()
        );
    }
    for load in [0.0, 1.0] {
        let capacity = Capacity {
            load,
            ..a_capacity()
        };
        assert!(
            Announcement {
                sequence: 0,
                capacity: Some(capacity)
            }
            .check()
            .is_ok()
        );
    }
}

#[test]
fn a_refusal_arrives_as_the_same_fault() {
    let fault =
        Fault::wc(WcCode::AcceptableUseViolation, "not this class").hint("ask another donor");
    let bytes = encode(&Answer::<OfferReply>::refused(&fault), Offer::MAX_ANSWER).unwrap();
    let answer: Answer<OfferReply> = decode(&bytes, Offer::MAX_ANSWER).unwrap();
    assert_eq!(answer.into_result().unwrap_err(), fault);
}

#[test]
fn the_longest_refusal_fits_into_the_smallest_answer() {
    let fault = Fault::wc(WcCode::Internal, "m".repeat(Problem::MAX_TEXT))
        .hint("h".repeat(Problem::MAX_TEXT));
    for limit in [
        Offer::MAX_ANSWER,
        Dispatch::MAX_ANSWER,
        Lease::MAX_ANSWER,
        Content::MAX_ANSWER,
        PeerExchange::MAX_ANSWER,
    ] {
        assert!(encode(&Answer::<LeaseReply>::refused(&fault), limit).is_ok());
    }
}

#[test]
fn the_largest_chunk_fits_into_an_answer() {
    let reply = Answer::Ok(ContentReply {
        total: u64::MAX,
        bytes: vec![0; MAX_CHUNK],
    });
    assert!(encode(&reply, Content::MAX_ANSWER).is_ok());
}

/// What the two readings of an answer with a part of an object come to.
fn both_readings(frame: &[u8]) -> [Option<(u64, Vec<u8>)>; 2] {
    let reply = |answer: Result<Answer<ContentReply>, Malformed>| match answer {
        Ok(Answer::Ok(reply)) => Some((reply.total, reply.bytes)),
        _ => None,
    };
    [
        reply(Content::answer(frame.to_vec())),
        reply(decode(frame, Content::MAX_ANSWER)),
    ]
}

#[test]
fn a_part_of_an_object_is_taken_out_of_its_frame_as_it_is_written() {
    for (total, length) in [(0, 0), (23, 1), (1 << 40, 24), (u64::MAX, MAX_CHUNK)] {
        let reply = ContentReply {
            total,
            bytes: vec![7; length],
        };
        let frame = encode(&Answer::Ok(reply), Content::MAX_ANSWER).unwrap();
        let taken = chunk::cut_out(frame).unwrap();
        assert_eq!((taken.total, taken.bytes), (total, vec![7; length]));
    }
}

#[test]
fn a_part_of_an_object_in_any_other_form_is_read_like_any_other_message() {
    let reply = |fields: Vec<(&str, ciborium::Value)>| {
        let fields = fields.into_iter().map(|(key, value)| (key.into(), value));
        let fields = ciborium::Value::Map(fields.collect());
        let answer = ciborium::Value::Map(vec![("ok".into(), fields)]);
        encode(&answer, 1000).unwrap()
    };
    let (total, bytes) = (("total", 3.into()), ("bytes", vec![1_u8, 2].into()));
    let turned = reply(vec![bytes.clone(), total.clone()]);
    let more = reply(vec![total.clone(), bytes.clone(), ("later", 1.into())]);
    for frame in [turned, more] {
        assert!(chunk::cut_out(frame.clone()).is_err());
        assert_eq!(both_readings(&frame)[0], Some((3, vec![1, 2])));
    }
    let whole = reply(vec![total, bytes]);
    for cut in [
        &whole[..whole.len() - 1],
        &[whole.clone(), vec![0]].concat(),
    ] {
        assert!(Content::answer(cut.to_vec()).is_err());
    }
}

#[test]
fn protocols_and_topics_keep_their_names() {
    let ids = [
        Offer::ID,
        Dispatch::ID,
        Lease::ID,
        Content::ID,
        PeerExchange::ID,
    ];
    assert_eq!(
        ids,
        [
            "/worldcompute/offer/1.0.0",
            "/worldcompute/dispatch/1.0.0",
            "/worldcompute/lease/1.0.0",
            "/worldcompute/content/1.0.0",
            "/worldcompute/relays/1.0.0",
        ]
    );
    assert_eq!(
        Topic::ALL.map(Topic::as_str),
        [
            "wc/task-announcements/1.0.0",
            "wc/capacity-updates/1.0.0",
            "wc/lease-grants/1.0.0",
            "wc/relay-announcements/1.0.0",
            "wc/kill-switch/1.0.0",
            "wc/bans/1.0.0",
            "wc/governance/1.0.0"
        ]
    );
}

/// The bytes that peers of version 1.0.0 exchange.
#[test]
fn the_encoding_of_an_offer_does_not_change() {
    let offer = OfferRequest {
        task_id: "t".to_owned(),
        classes: vec!["c".to_owned()],
        ..an_offer()
    };
    let bytes = encode(&offer, MANY).unwrap();
    let expected: String = [
        "a7677461736b5f696461746c6d616e69666573745f636964783b",
        &to_hex(Cid::raw(b"manifest").to_string().as_bytes()),
        "6d6d696e5f6370755f636f726573016d6d696e5f6d656d6f72795f6d6202696e656564735f677075f5",
        "706d61785f77616c6c636c6f636b5f6d730367636c617373657381",
        "6163",
    ]
    .concat();
    assert_eq!(to_hex(&bytes), expected);
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = decode::<OfferRequest>(&bytes, MANY);
        let _ = decode::<Answer<DispatchReply>>(&bytes, MANY);
        let _ = decode::<DispatchRequest>(&bytes, MANY);
        let _ = decode::<LeaseMessage>(&bytes, MANY);
        let _ = decode::<ContentRequest>(&bytes, MANY);
        let _ = decode::<Announcement>(&bytes, MANY);
        let _ = decode::<RelayAnnouncement>(&bytes, MANY);
        let _ = decode::<RelaysRequest>(&bytes, MANY);
        let _ = decode::<Answer<RelaysReply>>(&bytes, MANY);
    }

    #[test]
    fn a_word_of_relays_with_one_changed_byte_is_refused_or_still_within_its_limits(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = encode(&relays_told(2), MANY).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(told) = decode::<RelaysReply>(&bytes, MANY) {
            prop_assert!(told.relays.len() <= MAX_RELAYS);
            prop_assert!(told.relays.iter().all(|relay| relay.addresses.len() <= MAX_RELAY_ADDRESSES));
        }
    }

    #[test]
    fn a_message_with_one_changed_byte_is_refused_or_still_within_its_limits(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = encode(&a_dispatch(), MANY).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(dispatch) = decode::<DispatchRequest>(&bytes, MANY) {
            prop_assert!(dispatch.inline_inputs.len() <= MAX_INPUTS && dispatch.task_id.len() <= MAX_ID);
        }
    }
}
