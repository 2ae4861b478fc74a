//! What the lab's programs have in common.

use tokio::sync::oneshot;

pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Resolves when whoever started this program has closed its standard input, or is gone.
pub(crate) fn end_of_input() -> oneshot::Receiver<()> {
    let (ended, end) = oneshot::channel();
    std::thread::spawn(move || {
        // What is said on it is of no interest, only that it ends.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        drop(ended);
    });
    end
}
