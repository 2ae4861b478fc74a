//! Requests between two nodes that reach each other directly, and how nodes come and go.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

mod support;

use std::time::Duration;

use support::*;
use worldcompute_fault::{Category, Fault, WcCode};
use worldcompute_mesh::wire::{DispatchStatus, NamedBytes, OfferReply, Topic};
use worldcompute_mesh::{Inbound, Mesh, MeshConfig, MeshEvent, Path, Request};
use worldcompute_proof::Cid;

/// Two nodes, the first of which knows the second.
async fn pair() -> (Mesh, Mesh, tokio::sync::mpsc::Receiver<Inbound>) {
    logged();
    let (asking, _) = open(1).await;
    let (asked, inbound) = open(2).await;
    asking
        .add_peer(asked.peer_id(), dialled(&asked).await)
        .await;
    (asking, asked, inbound)
}

async fn next(inbound: &mut tokio::sync::mpsc::Receiver<Inbound>) -> Inbound {
    within("a request", inbound.recv()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_names_its_sender_and_how_it_came() {
    let (asking, asked, mut inbound) = pair().await;
    let offered = tokio::spawn({
        let asking = asking.clone();
        async move { asking.offer(asked.peer_id(), an_offer()).await }
    });
    let request = next(&mut inbound).await;
    assert_eq!(
        (request.from, request.path),
        (asking.peer_id(), Path::Direct)
    );
    match request.request {
        Request::Offer(offer, responder) => {
            assert_eq!(offer, an_offer());
            responder.refuse(
                &Fault::wc(WcCode::AcceptableUseViolation, "not here").hint("go elsewhere"),
            );
        }
        other => panic!("{other:?}"),
    }
    let fault = offered.await.unwrap().unwrap_err();
    assert_eq!(
        fault,
        Fault::wc(WcCode::AcceptableUseViolation, "not here").hint("go elsewhere")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_carries_megabytes_both_ways() {
    let (asking, asked, inbound) = pair().await;
    serve(inbound, Objects::new());
    let mut task = a_task(bytes(8 << 20, 3));
    task.inline_inputs = vec![NamedBytes {
        name: "in".to_owned(),
        bytes: bytes(4 << 20, 5),
    }];
    let reply = within("the task", asking.dispatch(asked.peer_id(), task.clone()))
        .await
        .unwrap();
    assert_eq!(reply.status, DispatchStatus::Succeeded);
    assert!(reply.output == task.manifest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_too_large_to_send_says_so() {
    let (asking, asked, _inbound) = pair().await;
    let fault = within(
        "a refusal",
        asking.dispatch(asked.peer_id(), a_task(vec![0; 17 << 20])),
    )
    .await
    .unwrap_err();
    assert_eq!(
        (fault.code(), fault.category()),
        ("unsendable_request", Category::InvalidInput)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_past_the_limits_is_refused_where_it_is_made_and_blames_nobody() {
    let (asking, asked, mut inbound) = pair().await;
    let peer = asked.peer_id();
    let offered = tokio::spawn({
        let asking = asking.clone();
        async move { asking.offer(peer, an_offer()).await }
    });
    let Request::Offer(_, responder) = next(&mut inbound).await.request else {
        panic!("an offer")
    };
    responder.send(OfferReply {
        accepted: false,
        load: 0.0,
        reason: Some("r".repeat(100_000)),
    });
    let fault = offered.await.unwrap().unwrap_err();
    assert_eq!(fault.code(), "unsendable_answer");
    assert_eq!(asking.status().await.unwrap().inbound.malformed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_dropped_is_told_to_be_unanswered() {
    let (asking, asked, mut inbound) = pair().await;
    let offered = tokio::spawn(async move { asking.offer(asked.peer_id(), an_offer()).await });
    drop(next(&mut inbound).await);
    assert_eq!(offered.await.unwrap().unwrap_err().code(), "unanswered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_answers_busy_and_takes_requests_again_when_it_is_drained() {
    let mut config = MeshConfig::new(key(2));
    config.listen = addresses(&LOOPBACK);
    config.inbound_queue = 2;
    let (asked, mut inbound) = Mesh::start(config).await.unwrap();
    let (asking, _) = open(1).await;
    asking
        .add_peer(asked.peer_id(), dialled(&asked).await)
        .await;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let (asking, peer) = (asking.clone(), asked.peer_id());
        let before = asked.status().await.unwrap().inbound.accepted;
        waiting.push(tokio::spawn(
            async move { asking.offer(peer, an_offer()).await },
        ));
        within("its arrival", async {
            while asked.status().await.unwrap().inbound.accepted == before {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    let fault = within("a refusal", asking.offer(asked.peer_id(), an_offer()))
        .await
        .unwrap_err();
    assert_eq!((fault.code(), fault.retryable()), ("peer_busy", true));
    assert_eq!(asked.status().await.unwrap().inbound.busy, 1);

    for _ in 0..2 {
        let Request::Offer(_, responder) = next(&mut inbound).await.request else {
            panic!("an offer")
        };
        responder.send(OfferReply {
            accepted: true,
            load: 0.0,
            reason: None,
        });
    }
    for offered in waiting {
        assert!(offered.await.unwrap().unwrap().accepted);
    }
    serve(inbound, Objects::new());
    assert!(
        within("an offer", asking.offer(asked.peer_id(), an_offer()))
            .await
            .unwrap()
            .accepted
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_tasks_are_under_way_to_one_peer_than_the_limit() {
    let (asking, asked, mut inbound) = pair().await;
    let dispatch = |n: usize| {
        let (asking, peer) = (asking.clone(), asked.peer_id());
        tokio::spawn(async move {
            asking
                .dispatch(peer, a_task(vec![u8::try_from(n).unwrap()]))
                .await
        })
    };
    let running: Vec<_> = (0..20).map(dispatch).collect();
    let mut held = Vec::new();
    while held.len() < 20 {
        held.push(next(&mut inbound).await);
    }
    let fault = within(
        "a refusal",
        asking.dispatch(asked.peer_id(), a_task(vec![])),
    )
    .await
    .unwrap_err();
    assert_eq!(
        (fault.code(), fault.category()),
        ("peer_busy", Category::StateContention)
    );
    for inbound in held {
        let Request::Dispatch(task, responder) = inbound.request else {
            panic!("a task")
        };
        responder.send(ran(&task));
    }
    for task in running {
        assert!(task.await.unwrap().is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_responder_learns_that_its_requester_is_gone() {
    let (asking, asked, mut inbound) = pair().await;
    let task = tokio::spawn({
        let asking = asking.clone();
        async move { asking.dispatch(asked.peer_id(), a_task(vec![])).await }
    });
    let Request::Dispatch(_, mut responder) = next(&mut inbound).await.request else {
        panic!("a task")
    };
    assert!(!responder.is_closed());
    asking.shutdown().await;
    within("the requester's end", responder.closed()).await;
    assert_eq!(task.await.unwrap().unwrap_err().code(), "mesh_stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_executor_dies_fails_at_once_and_the_peer_is_down() {
    let (asking, asked, mut inbound) = pair().await;
    let mut events = asking.subscribe();
    let peer = asked.peer_id();
    let task = tokio::spawn({
        let asking = asking.clone();
        async move { asking.dispatch(peer, a_task(vec![])).await }
    });
    let _held = next(&mut inbound).await;
    event("the peer", &mut events, |event| {
        matches!(event, MeshEvent::PeerUp(up, _) if up == peer).then_some(())
    })
    .await;
    asked.shutdown().await;
    let fault = within("the task's end", task).await.unwrap().unwrap_err();
    assert_eq!((fault.code(), fault.retryable()), ("connection_lost", true));
    event("its end", &mut events, |event| {
        matches!(event, MeshEvent::PeerDown(down) if down == peer).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sends_requests_to_itself_or_to_the_unknown() {
    let (mesh, _inbound) = open(1).await;
    assert_eq!(
        mesh.offer(mesh.peer_id(), an_offer())
            .await
            .unwrap_err()
            .code(),
        "own_peer"
    );
    let fault = mesh.offer(key(9).peer_id(), an_offer()).await.unwrap_err();
    assert_eq!(fault.number(), Some(WcCode::DialFailureWithDetail));
    assert!(fault.message().contains("no address is known"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_without_known_address_is_found_through_a_relay_that_others_know() {
    let hub = relay(1, &LOOPBACK).await;
    let far = relay(2, &LOOPBACK).await;
    // The hub learns the far relay from a node that is connected to both, by its own dialling.
    let mut config = MeshConfig::new(key(3));
    config.bootstrap = dialled(&far).await;
    config.listen = addresses(&LOOPBACK);
    config.relay_server = true;
    let (between, _between_in) = Mesh::start(config).await.unwrap();
    let mut events = between.subscribe();
    event("the far relay", &mut events, |event| {
        matches!(event, MeshEvent::PeerUp(peer, _) if peer == far.peer_id()).then_some(())
    })
    .await;
    let mut config = MeshConfig::new(key(4));
    config.bootstrap = dialled(&between).await;
    let (seeker, _seeker_in) = Mesh::start(config).await.unwrap();
    let mut events = seeker.subscribe();
    event("the relay between", &mut events, |event| {
        matches!(event, MeshEvent::PeerUp(peer, _) if peer == between.peer_id()).then_some(())
    })
    .await;
    // A relay runs nothing, so that the answer is a refusal; but it is the far relay that refuses.
    let fault = within("an answer", seeker.offer(far.peer_id(), an_offer()))
        .await
        .unwrap_err();
    assert_ne!(
        fault.number(),
        Some(WcCode::DialFailureWithDetail),
        "{fault}"
    );
    assert!(peer_info(&seeker, far.peer_id()).await.unwrap().connected);
    drop(hub);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_leaves_tells_its_peers_and_frees_its_ports() {
    let (asking, asked, inbound) = pair().await;
    serve(inbound, Objects::new());
    let mut events = asking.subscribe();
    asking.offer(asked.peer_id(), an_offer()).await.unwrap();
    event("the peer", &mut events, |event| {
        matches!(event, MeshEvent::PeerUp(..)).then_some(())
    })
    .await;
    let listen = asked.status().await.unwrap().listen;
    asked.shutdown().await;
    event("its end", &mut events, |event| {
        matches!(event, MeshEvent::PeerDown(_)).then_some(())
    })
    .await;
    assert_eq!(asked.status().await.unwrap_err().code(), "mesh_stopped");
    assert!(asked.peers().await.is_empty());
    asked.shutdown().await;
    assert!(asked.subscribe().recv().await.is_err());

    // The system lets go of a UDP port a moment after its last connection has drained.
    within("the ports", async {
        loop {
            let mut config = MeshConfig::new(key(3));
            config.listen = listen.clone();
            if Mesh::start(config).await.is_ok() {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_leaves_when_its_last_handle_is_dropped() {
    let (asking, asked, inbound) = pair().await;
    serve(inbound, Objects::new());
    let mut events = asking.subscribe();
    let copy = asked.clone();
    asking.offer(asked.peer_id(), an_offer()).await.unwrap();
    event("the peer", &mut events, |event| {
        matches!(event, MeshEvent::PeerUp(..)).then_some(())
    })
    .await;
    drop(asked);
    assert!(copy.status().await.is_ok());
    drop(copy);
    event("its end", &mut events, |event| {
        matches!(event, MeshEvent::PeerDown(_)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_an_error_that_names_it() {
    let (first, _inbound) = open(1).await;
    let mut config = MeshConfig::new(key(2));
    config.listen = first.status().await.unwrap().listen;
    let fault = Mesh::start(config).await.unwrap_err();
    assert_eq!(
        (fault.code(), fault.category()),
        ("cannot_listen", Category::IoFailure)
    );
    assert!(fault.message().to_lowercase().contains("in use"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bootstrap_addresses_that_make_no_sense_are_refused() {
    let mut config = MeshConfig::new(key(1));
    let relay = key(2).peer_id();
    config.bootstrap = vec![
        format!("/ip4/127.0.0.1/tcp/1/p2p/{relay}/p2p-circuit")
            .parse()
            .unwrap(),
    ];
    assert_eq!(
        Mesh::start(config.clone()).await.unwrap_err().code(),
        "invalid_bootstrap"
    );
    config.bootstrap = (1..=33)
        .map(|port| format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap())
        .collect();
    assert_eq!(
        Mesh::start(config.clone()).await.unwrap_err().code(),
        "invalid_bootstrap"
    );
    // Its own address in a list that all nodes share.
    config.bootstrap = vec![
        format!("/ip4/127.0.0.1/tcp/1/p2p/{}", config.key.peer_id())
            .parse()
            .unwrap(),
    ];
    let (mesh, _inbound) = Mesh::start(config).await.unwrap();
    assert_eq!(
        mesh.status().await.unwrap().dials,
        worldcompute_mesh::DialCounts::default()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_message_reaches_the_others_with_its_author() {
    let (asking, asked, inbound) = pair().await;
    serve(inbound, Objects::new());
    let mut heard = asked.subscribe();
    let mut events = asking.subscribe();
    asking.offer(asked.peer_id(), an_offer()).await.unwrap();
    event("the peer", &mut events, |event| {
        matches!(event, MeshEvent::PeerUp(..)).then_some(())
    })
    .await;
    // A message that nobody hears is no error, and nobody hears it before the subscriptions are exchanged.
    let gossip = within("the message", async {
        loop {
            asking
                .publish(Topic::LeaseGrants, b"granted".to_vec())
                .await
                .unwrap();
            let next = tokio::time::timeout(Duration::from_millis(200), heard.recv()).await;
            if let Ok(Ok(MeshEvent::Gossip { topic, from, bytes })) = next {
                return (topic, from, bytes);
            }
        }
    })
    .await;
    assert_eq!(
        (gossip.0, gossip.1, &*gossip.2),
        (Topic::LeaseGrants, asking.peer_id(), b"granted".as_slice())
    );

    let fault = asking
        .publish(Topic::CapacityUpdates, vec![])
        .await
        .unwrap_err();
    assert_eq!(fault.code(), "reserved_topic");
    let fault = asking
        .publish(Topic::LeaseGrants, vec![0; 64 * 1024 + 1])
        .await
        .unwrap_err();
    assert_eq!(fault.code(), "message_too_large");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_any_size_is_fetched() {
    let (asking, asked, inbound) = pair().await;
    let sizes = [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5 << 20];
    let objects: Vec<Vec<u8>> = sizes
        .iter()
        .map(|size| bytes(*size, 1 + *size as u64))
        .collect();
    let named = objects
        .iter()
        .map(|object| (Cid::raw(object).to_string(), object.clone()));
    serve(inbound, named.collect());
    for object in objects {
        let fetched = within(
            "it",
            asking.fetch(asked.peer_id(), &Cid::raw(&object), object.len() as u64),
        )
        .await;
        assert!(fetched.unwrap() == object, "{} bytes", object.len());
    }
}
