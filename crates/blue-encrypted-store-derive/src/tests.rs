//! What goes where, and what is refused.

use quote::ToTokens;
use syn::{File, Item, ItemStruct, parse_quote};

use super::*;

fn halves(input: &DeriveInput) -> [Vec<String>; 2] {
    let file: File = syn::parse2(expand(input).unwrap()).unwrap();
    let fields = |half: &ItemStruct| half.fields.iter().map(named).collect();
    let found: Vec<Vec<String>> = file
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Struct(half) => Some(fields(half)),
            _ => None,
        })
        .collect();
    found.try_into().unwrap()
}

fn named(field: &Field) -> String {
    field.ident.to_token_stream().to_string()
}

fn refusal(input: &DeriveInput) -> String {
    expand(input).unwrap_err().to_string()
}

#[test]
fn what_says_nothing_is_sealed_and_the_id_is_in_neither_half() {
    let halves = halves(&parse_quote! {
        #[entity(name = "call")]
        struct Call { #[id] id: String, #[clear] number: u32, prompt: String, #[clear(listed)] status: String }
    });
    assert_eq!(halves, [vec!["number", "status"], vec!["prompt"]]);
}

#[test]
fn every_cleartext_field_is_asked_whether_it_may_be() {
    let expanded = expand(&parse_quote! {
        #[entity(name = "meta", padded_to = 64)]
        struct About { #[clear] title: Prompt, #[clear(listed)] at: Time, note: Secret }
    });
    let expanded = expanded.unwrap().to_string();
    assert!(expanded.contains("may_be_clear :: < Prompt > ()"));
    assert!(expanded.contains("may_be_clear :: < Time > ()"));
    assert!(!expanded.contains("may_be_clear :: < Secret >"));
    assert!(expanded.contains("const PADDED_TO : usize = 64"));
}

#[test]
fn the_id_is_asked_the_same_and_names_are_asked_of_the_store() {
    let expanded = expand(&parse_quote! {
        #[entity(name = "call")]
        struct Call { #[id] id: Number, #[clear] r#type: Word, note: Secret }
    });
    let expanded = expanded.unwrap().to_string();
    assert!(expanded.contains("may_be_clear :: < Number > ()"));
    assert!(expanded.contains("impl :: blue_encrypted_store :: ClearHalf for CallClear"));
    assert!(expanded.contains("is_field_name (\"type\")"));
    assert!(!expanded.contains("is_field_name (\"note\")"));
    assert!(expanded.contains("is_type_name (\"call\")"));
}

#[test]
fn what_is_no_record_is_refused() {
    refused(&[
        (
            parse_quote! { #[entity(name = "a")] struct A { #[clear] b: u8 } },
            "which field is the `#[id]`",
        ),
        (
            parse_quote! { #[entity(name = "meta")] struct A { #[id] id: String } },
            "has no id",
        ),
        (
            parse_quote! { #[entity(name = "a")] struct A { #[id] a: String, #[id] b: String } },
            "a second id",
        ),
        (
            parse_quote! { #[entity(name = "meta")] struct A { #[clear(listed)] a: u8, #[clear(listed)] b: u8 } },
            "a second field",
        ),
        (
            parse_quote! { #[entity(name = "a")] struct A { #[id] #[clear] id: String } },
            "in one place",
        ),
        (
            parse_quote! { #[entity(name = "a")] struct A<T> { #[id] id: T } },
            "no parameters",
        ),
        (
            parse_quote! { #[entity(name = "a")] struct A(String); },
            "named fields",
        ),
        (
            parse_quote! { #[entity(name = "a")] enum A { B } },
            "is a struct",
        ),
    ]);
}

#[test]
fn what_is_said_wrongly_is_refused() {
    refused(&[
        (
            parse_quote! { struct A { #[id] id: String } },
            "say `#[entity(name",
        ),
        (
            parse_quote! { #[entity(padded_to = 1)] struct A { #[id] id: String } },
            "say `#[entity(name",
        ),
        (
            parse_quote! { #[entity(named = "a")] struct A { #[id] id: String } },
            "expected `name`",
        ),
        (
            parse_quote! { #[entity(name = "meta")] struct A { #[clear(often)] a: u8 } },
            "expected `listed`",
        ),
        (
            parse_quote! { #[entity(name = "meta")] struct A { #[clear()] a: u8 } },
            "unexpected end",
        ),
        (
            parse_quote! { #[entity(name = "meta")] struct A { #[serde(with = "hex")] a: Key } },
            "serde is not told",
        ),
        (
            parse_quote! { #[entity(name = "meta")] #[serde(rename_all = "camelCase")] struct A { a: Key } },
            "serde is not told",
        ),
        (
            parse_quote! { #[entity(name = "meta", padded_to = 0)] struct A { a: Key } },
            "no multiple of 0",
        ),
        (
            parse_quote! { #[entity(name = "meta", padded_to = 8, padded_to = 16)] struct A { a: Key } },
            "said twice",
        ),
        (
            parse_quote! { #[entity(name = "a")] #[entity(name = "b")] struct A { #[id] id: Id } },
            "said twice",
        ),
    ]);
}

fn refused(cases: &[(DeriveInput, &str)]) {
    for (input, why) in cases {
        let said = refusal(input);
        assert!(said.contains(why), "{said:?} for {why:?}");
    }
}
