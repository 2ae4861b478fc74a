# The same chores as `cargo xtask`, for those who use just.

endpoint := "http://127.0.0.1:8000"

# everything CI does
ci:
    cargo xtask ci

# every test, each in a process of its own where nextest is installed
test:
    if cargo nextest --version >/dev/null 2>&1; then cargo nextest run --workspace; else cargo test --workspace; fi

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
