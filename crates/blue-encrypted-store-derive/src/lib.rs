//! `#[derive(Entity)]` for records of the encrypted store; documented at `blue_encrypted_store::Entity`.
//!
//! A field is sealed unless it says `#[clear]`, so that what is added to a record later, or was forgotten, is secret. What
//! says so has to be of a type that may be cleartext at all, and so has the id, which the compiler checks. What would be
//! dropped, or be found at run time alone, is refused here.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::meta::ParseNestedMeta;
use syn::parse::Parse;
use syn::spanned::Spanned;
use syn::{
    Attribute, Data, DeriveInput, Error, Field, Fields, Ident, LitInt, LitStr, Meta, Result,
    parse_macro_input,
};

/// Takes a record apart into `{Name}Clear`, with the fields that say `#[clear]`, and `{Name}Sealed`, with all others.
#[proc_macro_derive(Entity, attributes(entity, id, clear))]
pub fn entity(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input)
        .unwrap_or_else(Error::into_compile_error)
        .into()
}

/// The type of the one record that is about its partition, and has no id.
const META: &str = "meta";

fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let settings = Settings::of(input)?;
    let record = Record::of(input, &settings)?;
    let (halves, implementation) = (
        record.halves(input),
        record.implementation(input, &settings),
    );
    Ok(quote! { #halves #implementation })
}

/// What stands in `#[entity(..)]`.
struct Settings {
    name: LitStr,
    padded_to: Option<LitInt>,
}

impl Settings {
    fn of(input: &DeriveInput) -> Result<Self> {
        refuse_serde(&input.attrs)?;
        let (mut name, mut padded_to) = (None, None);
        for attribute in input.attrs.iter().filter(|a| a.path().is_ident("entity")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("name") {
                    once(&mut name, &meta)
                } else if meta.path.is_ident("padded_to") {
                    once(&mut padded_to, &meta)
                } else {
                    Err(meta.error("expected `name` or `padded_to`"))
                }
            })?;
        }
        let missing = || Error::new(input.span(), "say `#[entity(name = \"..\")]`");
        let name = name.ok_or_else(missing)?;
        padded_to.as_ref().map_or(Ok(()), check_padding)?;
        Ok(Self { name, padded_to })
    }
}

fn once<T: Parse>(setting: &mut Option<T>, meta: &ParseNestedMeta<'_>) -> Result<()> {
    if setting.is_some() {
        return Err(meta.error("it is said twice"));
    }
    *setting = Some(meta.value()?.parse()?);
    Ok(())
}

fn check_padding(to: &LitInt) -> Result<()> {
    match to.base10_parse::<usize>()? {
        0 => Err(Error::new(
            to.span(),
            "payloads have no multiple of 0 bytes",
        )),
        _ => Ok(()),
    }
}

/// The halves are types of their own, field by field: what serde is told of this one would be lost.
fn refuse_serde(attributes: &[Attribute]) -> Result<()> {
    match attributes.iter().find(|a| a.path().is_ident("serde")) {
        None => Ok(()),
        Some(told) => Err(Error::new(
            told.span(),
            "serde is not told this of the halves: give the field a type that is serialised so",
        )),
    }
}

/// The fields of a record by what becomes of them.
#[derive(Default)]
struct Record<'a> {
    id: Option<&'a Field>,
    clear: Vec<&'a Field>,
    sealed: Vec<&'a Field>,
    listed: Option<&'a Ident>,
}

enum Place {
    Id,
    Clear,
    Listed,
    Sealed,
}

impl<'a> Record<'a> {
    fn of(input: &'a DeriveInput, settings: &Settings) -> Result<Self> {
        if !input.generics.params.is_empty() {
            return Err(Error::new(
                input.generics.span(),
                "a record has no parameters",
            ));
        }
        let mut record = Self::default();
        for field in named_fields(input)? {
            record.take(field)?;
        }
        match (record.id, settings.name.value() == META) {
            (Some(id), true) => Err(Error::new(id.span(), "the meta record has no id")),
            (None, false) => Err(Error::new(input.span(), "say which field is the `#[id]`")),
            _ => Ok(record),
        }
    }

    fn take(&mut self, field: &'a Field) -> Result<()> {
        let twice = |what: &str| Err(Error::new(field.span(), format!("a second {what}")));
        match place(field)? {
            Place::Sealed => self.sealed.push(field),
            Place::Clear => self.clear.push(field),
            Place::Id if self.id.is_some() => return twice("id"),
            Place::Id => self.id = Some(field),
            Place::Listed if self.listed.is_some() => return twice("field to be listed by"),
            Place::Listed => {
                self.clear.push(field);
                self.listed = field.ident.as_ref();
            }
        }
        Ok(())
    }

    fn halves(&self, input: &DeriveInput) -> TokenStream {
        let (name, vis) = (&input.ident, &input.vis);
        let half = |suffix: &str, what: &str, fields: &[&Field]| {
            let half = format_ident!("{name}{suffix}");
            let doc = format!("The fields of a [`{name}`] that {what}.");
            let fields = fields
                .iter()
                .map(|Field { vis, ident, ty, .. }| quote! { #vis #ident: #ty });
            quote! {
                #[doc = #doc]
                #[derive(::blue_encrypted_store::derived::Serialize, ::blue_encrypted_store::derived::Deserialize)]
                #[serde(crate = "::blue_encrypted_store::derived", deny_unknown_fields)]
                #vis struct #half { #(#fields),* }
            }
        };
        let clear = half("Clear", "whoever reads the table may read", &self.clear);
        let sealed = half("Sealed", "are encrypted", &self.sealed);
        let name = format_ident!("{name}Clear");
        quote! {
            #clear
            impl ::blue_encrypted_store::ClearHalf for #name {}
            #sealed
        }
    }

    /// What the compiler is asked about what lies in the clear.
    fn checks(&self, settings: &Settings) -> TokenStream {
        let seen = self.clear.iter().copied().chain(self.id);
        let types = seen.map(|Field { ty, .. }| {
            quote_spanned! { ty.span() => may_be_clear::<#ty>(); }
        });
        let names = idents(&self.clear).into_iter().map(|name| {
            let text = name.unraw().to_string();
            let refusal = format!("a cleartext field cannot be named {text}: the store has one of that name");
            quote_spanned! { name.span() => assert!(::blue_encrypted_store::derived::is_field_name(#text), #refusal); }
        });
        let name = &settings.name;
        let refusal = format!(
            "{:?} is no type of records: a lowercase slug other than \"dek\" and \"manifest\"",
            name.value()
        );
        quote! {
            const _: () = {
                const fn may_be_clear<T: ::blue_encrypted_store::ClearField>() {}
                #(#types)*
                #(#names)*
                assert!(::blue_encrypted_store::derived::is_type_name(#name), #refusal);
            };
        }
    }

    fn implementation(&self, input: &DeriveInput, settings: &Settings) -> TokenStream {
        let name = &input.ident;
        let (clear, sealed) = (format_ident!("{name}Clear"), format_ident!("{name}Sealed"));
        let entity_type = &settings.name;
        let padded_to = settings.padded_to.iter();
        let [of_clear, of_sealed] = [&self.clear, &self.sealed].map(|half| idents(half));
        let own = idents(self.id.as_slice());
        let (id, read) = match self.id {
            Some(Field { ty, .. }) => (
                quote! { #(::std::string::ToString::to_string(&self.#own))* },
                quote! { #(#own: <#ty as ::std::convert::TryFrom<::std::string::String>>::try_from(_id)?,)* },
            ),
            None => (quote! { ::std::string::String::new() }, TokenStream::new()),
        };
        let listed = self.listed.iter();
        let checks = self.checks(settings);
        quote! {
            #checks
            impl ::blue_encrypted_store::Entity for #name {
                const TYPE: &'static str = #entity_type;
                #(const PADDED_TO: usize = #padded_to;)*
                type Clear = #clear;
                type Sealed = #sealed;

                fn id(&self) -> ::std::string::String {
                    #id
                }
                fn split(self) -> (#clear, #sealed) {
                    (#clear { #(#of_clear: self.#of_clear),* }, #sealed { #(#of_sealed: self.#of_sealed),* })
                }
                fn join(
                    _id: ::std::string::String, clear: #clear, sealed: #sealed,
                ) -> ::blue_encrypted_store::derived::Result<Self> {
                    ::std::result::Result::Ok(
                        Self { #read #(#of_clear: clear.#of_clear,)* #(#of_sealed: sealed.#of_sealed),* }
                    )
                }
                #(fn listed_as(clear: &#clear) -> ::std::option::Option<::std::string::String> {
                    ::std::option::Option::Some(::std::string::ToString::to_string(&clear.#listed))
                })*
            }
        }
    }
}

fn idents<'a>(fields: &[&'a Field]) -> Vec<&'a Ident> {
    fields
        .iter()
        .filter_map(|field| field.ident.as_ref())
        .collect()
}

fn named_fields(input: &DeriveInput) -> Result<impl Iterator<Item = &Field>> {
    match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => Ok(fields.named.iter()),
            _ => Err(Error::new(input.span(), "a record has named fields")),
        },
        _ => Err(Error::new(input.span(), "a record is a struct")),
    }
}

fn place(field: &Field) -> Result<Place> {
    refuse_serde(&field.attrs)?;
    let mut place = Place::Sealed;
    for attribute in &field.attrs {
        let named = match attribute.path() {
            path if path.is_ident("id") => attribute.meta.require_path_only().map(|_| Place::Id)?,
            path if path.is_ident("clear") => clear(attribute)?,
            _ => continue,
        };
        if !matches!(place, Place::Sealed) {
            return Err(Error::new(attribute.span(), "a field is in one place"));
        }
        place = named;
    }
    Ok(place)
}

/// `#[clear]` or `#[clear(listed)]`.
fn clear(attribute: &Attribute) -> Result<Place> {
    if let Meta::Path(_) = attribute.meta {
        return Ok(Place::Clear);
    }
    match attribute.parse_args::<Ident>()? {
        how if how == "listed" => Ok(Place::Listed),
        how => Err(Error::new(how.span(), "expected `listed`")),
    }
}

#[cfg(test)]
mod tests;
