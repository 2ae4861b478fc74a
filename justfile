# The same chores as `cargo xtask`, for those who use just.

endpoint := "http://127.0.0.1:8000"

# everything CI does
ci:
    cargo xtask ci

# the tests of CI: those of the workspace with the examples in its documentation, and the store on the engines and keys of others
test:
    if cargo nextest --version >/dev/null 2>&1; then cargo nextest run --workspace && cargo test --workspace --doc; else cargo test --workspace; fi
    tests/system/dynamodb_local.sh
    tests/system/kms_moto.sh
    tests/system/tpm.sh

# DynamoDB Local in Docker, a development key, and a store set up in it: once, and after `nuke`
setup: dev
    DYNAMODB_ENDPOINT={{ endpoint }} cargo run -p blue-encrypted-store --features aws --example set_up

# DynamoDB Local in Docker, as it was left
dev:
    docker compose up --detach --wait
    @echo "export DYNAMODB_ENDPOINT={{ endpoint }}"

# the encrypted store on Amazon's DynamoDB Local, without Docker
store:
    tests/system/dynamodb_local.sh

# DynamoDB Local and all that it holds are gone; the development key stays
nuke:
    docker compose down --volumes --remove-orphans

# a cluster on this machine draws a picture
demo:
    cargo run --release -- demo

# forbidden words, long functions, machine paths, missing module docs
tidy:
    cargo xtask tidy

# every bench, as medians and ratios
bench:
    cargo xtask bench

# format everything
fmt:
    cargo fmt --all
