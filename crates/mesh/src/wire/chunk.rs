//! A part of an object is taken out of its frame as it is: decoding a mebibyte like any other message copies it twice.

use std::ops::Range;

use ciborium_ll::{Decoder, Header};

use super::ContentReply;

/// The reply in a frame that says no more than [`ContentReply`] does, in its order: as this program writes it. Any other
/// frame is given back; it may be an answer too.
pub(super) fn cut_out(mut frame: Vec<u8>) -> Result<ContentReply, Vec<u8>> {
    let Some((total, place)) = place(&frame) else {
        return Err(frame);
    };
    frame.truncate(place.end);
    frame.drain(..place.start);
    Ok(ContentReply {
        total,
        bytes: frame,
    })
}

/// The size of the object, and where in the frame its bytes are.
fn place(frame: &[u8]) -> Option<(u64, Range<usize>)> {
    let mut head = Head(Decoder::from(frame));
    head.map(1)?;
    head.key("ok")?;
    head.map(2)?;
    head.key("total")?;
    let Header::Positive(total) = head.0.pull().ok()? else {
        return None;
    };
    head.key("bytes")?;
    let Header::Bytes(Some(length)) = head.0.pull().ok()? else {
        return None;
    };
    let start = head.0.offset();
    let end = start.checked_add(length)?;
    (end == frame.len()).then_some((total, start..end))
}

/// What stands before the bytes.
struct Head<'a>(Decoder<&'a [u8]>);

impl Head<'_> {
    fn map(&mut self, entries: usize) -> Option<()> {
        (self.0.pull().ok()? == Header::Map(Some(entries))).then_some(())
    }

    fn key(&mut self, key: &str) -> Option<()> {
        if self.0.pull().ok()? != Header::Text(Some(key.len())) {
            return None;
        }
        let mut text = [0; 8];
        let text = text.get_mut(..key.len())?;
        ciborium_io::Read::read_exact(&mut self.0, text).ok()?;
        (*text == *key.as_bytes()).then_some(())
    }
}
