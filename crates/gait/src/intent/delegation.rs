//! The normal form of a delegation: a chain without gaps that ends at the requester and has not been dated backwards.

use worldcompute_fault::Result;

use super::field::{in_order, lower, required, set, too_many, trimmed};
use super::shape::{Delegation, DelegationLink};
use crate::limits::{MAX_DELEGATION_CHAIN, invalid};

pub(super) fn normal(given: Delegation) -> Result<Delegation> {
    too_many("delegation.chain", given.chain.len(), MAX_DELEGATION_CHAIN)?;
    let requester = trimmed("delegation.requester_identity", &given.requester_identity)?;
    let requester_identity = required("delegation.requester_identity", requester)?;
    let chain = given.chain.iter().enumerate();
    let chain: Vec<DelegationLink> = chain
        .map(|(index, link)| delegation_link(index, link))
        .collect::<Result<_>>()?;
    chain_is_whole(&chain, &requester_identity)?;
    in_order("delegation.expires_at", given.issued_at, given.expires_at)?;
    Ok(Delegation {
        scope_class: lower("delegation.scope_class", &given.scope_class)?,
        token_refs: set("delegation.token_refs", &given.token_refs)?,
        issued_at: given.issued_at,
        expires_at: given.expires_at,
        requester_identity,
        chain,
    })
}

fn delegation_link(index: usize, given: &DelegationLink) -> Result<DelegationLink> {
    let path = format!("delegation.chain[{index}]");
    let delegator_identity = trimmed(&path, &given.delegator_identity)?;
    let delegate_identity = trimmed(&path, &given.delegate_identity)?;
    if delegator_identity.is_empty() || delegate_identity.is_empty() {
        let message = format!("{path} requires delegator_identity and delegate_identity");
        return Err(invalid(message));
    }
    in_order(
        &format!("{path}.expires_at"),
        given.issued_at,
        given.expires_at,
    )?;
    Ok(DelegationLink {
        scope_class: lower(&path, &given.scope_class)?,
        token_ref: trimmed(&path, &given.token_ref)?,
        issued_at: given.issued_at,
        expires_at: given.expires_at,
        delegator_identity,
        delegate_identity,
    })
}

fn chain_is_whole(chain: &[DelegationLink], requester: &str) -> Result<()> {
    let mut delegators = chain.iter().skip(1).map(|link| &link.delegator_identity);
    if chain.iter().any(|link| {
        delegators
            .next()
            .is_some_and(|next| *next != link.delegate_identity)
    }) {
        return Err(invalid(
            "delegation.chain: each delegator_identity must match the delegate_identity before it",
        ));
    }
    match chain.last() {
        Some(last) if last.delegate_identity != requester => Err(invalid(
            "delegation.chain last delegate_identity must match delegation.requester_identity",
        )),
        _ => Ok(()),
    }
}
