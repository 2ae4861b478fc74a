//! A fault that crossed the network is the fault that was sent.

use proptest::prelude::*;
use worldcompute_fault::{Category, Fault, Problem, WcCode};

fn category() -> impl Strategy<Value = Category> {
    prop::sample::select(Category::ALL.to_vec())
}

fn number() -> impl Strategy<Value = WcCode> {
    prop::sample::select(WcCode::ALL.to_vec())
}

fn message() -> impl Strategy<Value = String> {
    prop::collection::vec(any::<char>(), 1..200).prop_map(String::from_iter)
}

fn own() -> impl Strategy<Value = Fault> {
    (category(), "[a-z][a-z0-9_]{0,63}", message())
        .prop_map(|(category, code, message)| Fault::new(category, code, message))
}

fn fault() -> impl Strategy<Value = Fault> {
    let renumbered = (own(), number()).prop_map(|(fault, number)| fault.numbered(number));
    let numbered = (number(), message()).prop_map(|(number, message)| Fault::wc(number, message));
    let any_kind = prop_oneof![
        own(),
        renumbered,
        numbered,
        message().prop_map(Fault::usage)
    ];
    (any_kind, prop::option::of(message())).prop_map(|(fault, hint)| match hint {
        Some(hint) => fault.hint(hint),
        None => fault,
    })
}

proptest! {
    #[test]
    fn a_problem_gives_back_the_fault_it_was_made_of(fault in fault(), instance in ".*") {
        let json = serde_json::to_vec(&fault.problem(instance)).unwrap();
        let back = Fault::from_problem(serde_json::from_slice::<Problem>(&json).unwrap());
        prop_assert_eq!(&back, &fault);
        prop_assert_eq!((back.exit_code(), back.gait_exit_code()), (fault.exit_code(), fault.gait_exit_code()));
        prop_assert_eq!((back.http(), back.grpc(), back.human()), (fault.http(), fault.grpc(), fault.human()));
    }

    #[test]
    fn any_json_object_is_taken_without_panic(
        status in any::<u16>(), kind in ".*", code in ".*", category in ".*", detail in ".*", hint in ".*",
    ) {
        let problem = Problem { status, kind, code, category, detail, hint, ..Problem::default() };
        let fault = Fault::from_problem(problem);
        prop_assert!(fault.message().len() <= Problem::MAX_TEXT && fault.code().len() <= Problem::MAX_CODE);
        prop_assert!(fault.human().chars().all(|c| c == '\n' || c == '\t' || !c.is_control()));
    }
}
