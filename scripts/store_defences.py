#!/usr/bin/env python3
"""Takes the defences of the encrypted store out, one at a time, in a copy of the sources, and shows which named test notices.

Usage: scripts/store_defences.py [--only WORD]
Prints a table in Markdown, and exits with 1 when a defence is missed by nobody. Takes about a minute a defence.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = pathlib.Path("crates/blue-encrypted-store/src")

# Attack, what is taken out, where, the code, what is there instead, the tests that must fail.
DEFENCES = [
    ("A1", "the address in the AAD", "name.rs",
     'sha256(format!("{kind}:{id}/entity:{entity}/{subkey}").as_bytes())', 'sha256(format!("{kind}:{id}/entity:{entity}").as_bytes())',
     ["different_addresses_have_different_aads"]),
    ("A1, A11", "the AAD in the content key", "envelope.rs",
     "info.extend_from_slice(&self.aad);", "",
     ["another_key_place_version_store_or_key_id_is_refused_by_the_commitment"]),
    ("A3", "store, tenant and user in the key-encryption key", "keys.rs",
     "for field in [&self.store, &self.tenant, &self.user] {", "for field in [&self.store] {",
     ["key_encryption_keys_of_different_contexts_are_derived_from_different_messages"]),
    ("A4", "the partition in the wrap of a data key", "keys.rs",
     "lp(&mut info, self.partition.id.as_str().as_bytes());", "",
     ["a_data_key_that_was_wrapped_for_one_place_opens_at_no_other"]),
    ("A5", "the version of a record in the manifest", "reader.rs",
     "row.listed() == listed && row.suite", "row.suite",
     ["an_older_version_of_a_record_is_refused", "older_cleartext_of_a_record_is_refused_though_its_payload_is_the_same"]),
    ("A7", "the mark outside of the table", "reader.rs",
     "check_floor(&scope.key, floor.as_ref(), &found)?;", "",
     ["a_partition_that_is_put_back_is_refused_by_who_saw_it_later"]),
    ("A8, A15", "the seal of a row", "row.rs",
     "if same(&self.mac(key), &seal) {", "if true || same(&self.mac(key), &seal) {",
     ["every_changed_byte_of_every_attribute_of_every_row_is_refused_by_its_check"]),
    ("A9", "the payload in the nonce", "envelope.rs",
     "context.update(plaintext);", "",
     ["a_stuck_random_number_generator_does_not_repeat_nonces_for_different_content"]),
    ("A10", "the count of what a data key has encrypted", "partition.rs",
     "let open = Box::pin(self.with_room(open, &steps)).await?;", "",
     ["no_data_key_encrypts_more_than_the_cap"]),
    ("A12, A13", "the commitment before AES-GCM", "crypto.rs",
     "if !same(&self.commitment, commitment) {", "if false && !same(&self.commitment, commitment) {",
     ["one_ciphertext_for_two_keys_is_refused_under_one_of_them"]),
    ("A14", "the list of suites", "envelope.rs",
     "_ => None,", "_ => Some(Self::V1),",
     ["there_is_no_suite_but_the_known_ones"]),
    ("A17", "the floor of data keys", "reader.rs",
     " && row.key_version >= header.min_dek", "",
     ["a_record_under_a_data_key_below_the_floor_is_refused"]),
    ("A17", "the floor of epochs", "keyring.rs",
     "epoch if epoch < self.epochs.floor => Err(Check::EpochFloor),", "",
     ["a_data_key_under_a_retired_epoch_is_refused_by_everybody"]),
    ("A18", "the hash of the event before", "audit/event.rs",
     "            &self.previous_hash,\n        ];", "            &[],\n        ];",
     ["every_changed_attribute_of_an_event_is_noticed"]),
    ("A19", "the lengths in what is hashed", "crypto.rs",
     "    out.extend_from_slice(&length(bytes));\n    out.extend_from_slice(bytes);", "    out.extend_from_slice(bytes);",
     ["fields_of_the_key_derivation_cannot_be_shifted_into_each_other"]),
    ("A22", "the tombstone", "erasure.rs",
     "root.filter(|row| Tombstone::is(row))", "root.filter(|row| Tombstone::is(row) && false)",
     ["an_erased_partition_that_is_put_back_around_its_tombstone_stays_erased"]),
    ("A24", "the padding", "plaintext.rs",
     "if self.len() >= size {", "if true || self.len() >= size {",
     ["padded_payloads_have_one_length_in_the_table_and_come_back_without_padding"]),
    ("A25", "the comparison of the keys that a provider gives for different epochs", "kek.rs",
     "match others.any(|other| same(&other, &found)) {", "match false && others.any(|other| same(&other, &found)) {",
     ["no_epoch_begins_with_a_provider_that_gives_one_key_for_several"]),
    ("", "the seal of a data key's row that is known from before", "keyring.rs",
     "let seal = row.check_seal(&key.seal_key).ok()?;", "let seal = row.array::<32>(SEAL).ok()?;",
     ["who_knows_a_data_key_still_refuses_every_changed_byte_of_its_row"]),
]


def copy(to):
    """A copy of what git tracks, and of what is not committed yet."""
    names = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True)
    for name in filter(None, names.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def failed(tree, tests):
    """The tests that fail, of these; None when there is nothing to run."""
    command = ["cargo", "test", "--quiet", "-p", "blue-encrypted-store", "--lib", "--", *tests]
    run = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=1800)
    if "test result:" not in run.stdout:
        return None, run.stdout + run.stderr
    return sorted(set(re.findall(r"^    (?:\w+::)*(\w+)$", run.stdout, re.MULTILINE))), run.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="defences whose description has this word")
    only = parser.parse_args().only
    chosen = [defence for defence in DEFENCES if only in defence[1]]
    if not chosen:
        sys.exit(f"no defence is described with {only!r}")
    missed = 0
    # In the same place each time, so that nothing is built twice.
    folder = ROOT / "target" / "defences"
    os.environ.setdefault("CARGO_TARGET_DIR", str(folder / "built"))
    tree = folder / "sources"
    shutil.rmtree(tree, ignore_errors=True)
    copy(tree)
    before, told = failed(tree, sorted({test for defence in chosen for test in defence[5]}))
    if before is None or before:
        sys.exit(f"with every defence in its place these fail: {before}\n{told[-2000:]}")
    print("| attack | taken out | noticed by |\n|---|---|---|", flush=True)
    for attack, what, name, code, instead, tests in chosen:
        path = tree / SOURCES / name
        whole = path.read_text()
        if whole.count(code) != 1:
            sys.exit(f"{name} has {whole.count(code)} times: {code}")
        path.write_text(whole.replace(code, instead))
        found, told = failed(tree, tests)
        path.write_text(whole)
        if found is None:
            sys.exit(f"without {what} it does not compile:\n{told}")
        noticed = [test for test in tests if test in found]
        missed += len(noticed) != len(tests)
        print(f"| {attack} | {what} | {', '.join(f'`{test}`' for test in noticed) or '**nobody**'} |", flush=True)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
