# The same chores as `cargo xtask`, for those who use just.

# everything CI does
ci:
    cargo xtask ci

# every test, each in a process of its own where nextest is installed
test:
    if cargo nextest --version >/dev/null 2>&1; then cargo nextest run --workspace; else cargo test --workspace; fi

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
