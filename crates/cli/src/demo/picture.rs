//! The picture: the manifest that has it drawn, and the tiles put together.

use bytes::Bytes;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::Cid;

/// Size of the whole, in pixels.
const WIDTH: u32 = 1024;
const HEIGHT: u32 = 768;

/// A tile is a line of pixels at least.
pub const MAX_TILES: u32 = HEIGHT;

/// How often a point is iterated before it counts as inside the set.
const ITERATIONS: u32 = 1000;

/// Red, green, blue.
const BYTES_PER_PIXEL: usize = 3;

/// A picture drawn as horizontal bands.
pub struct Picture {
    tiles: u32,
}

impl Picture {
    /// Cut into `tiles` bands, 1 to [`MAX_TILES`], each a task.
    pub const fn of_tiles(tiles: u32) -> Self {
        Self { tiles }
    }

    /// The job's manifest, as a user would write it.
    pub fn manifest(&self, module: &Cid) -> String {
        format!(
            "apiVersion: worldcompute/v1\n\
             kind: Job\n\
             metadata: {{ name: mandelbrot }}\n\
             spec:\n  \
               wasm: cid:{module}\n  \
               command: [mandelbrot, \"${{WC_TASK_INDEX}}\", \"${{WC_TASK_COUNT}}\", \"{WIDTH}\", \"{HEIGHT}\", \"{ITERATIONS}\"]\n  \
               array: {{ count: {} }}\n  \
               resources: {{ memory: 64Mi }}\n  \
               max_wall_time: 60s\n  \
               acceptable_use_classes: [scientific]\n",
            self.tiles
        )
    }

    /// The tiles in order, as a PNG.
    ///
    /// # Errors
    /// `picture_incomplete` when the tiles are not exactly the picture.
    pub fn assemble(&self, tiles: &[Bytes]) -> Result<Vec<u8>> {
        let pixels: Vec<u8> = tiles.concat();
        if pixels.len() != (WIDTH * HEIGHT) as usize * BYTES_PER_PIXEL {
            return Err(incomplete(&format!(
                "{} bytes of pixels came back",
                pixels.len()
            )));
        }
        let mut png = Vec::new();
        let mut encoder = png::Encoder::new(&mut png, WIDTH, HEIGHT);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder
            .write_header()
            .map_err(|error| incomplete(&error.to_string()))?;
        writer
            .write_image_data(&pixels)
            .map_err(|error| incomplete(&error.to_string()))?;
        writer
            .finish()
            .map_err(|error| incomplete(&error.to_string()))?;
        Ok(png)
    }
}

fn incomplete(what: &str) -> Fault {
    Fault::new(
        Category::VerificationFailed,
        "picture_incomplete",
        format!("the picture cannot be put together: {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tile_is_no_picture() {
        let band = Bytes::from(vec![0; (WIDTH * HEIGHT) as usize * BYTES_PER_PIXEL / 2]);
        let picture = Picture::of_tiles(2);
        assert_eq!(
            picture
                .assemble(std::slice::from_ref(&band))
                .unwrap_err()
                .code(),
            "picture_incomplete"
        );
        assert!(
            picture
                .assemble(&[band.clone(), band])
                .unwrap()
                .starts_with(b"\x89PNG")
        );
    }

    #[test]
    fn the_manifest_is_one_a_submitter_could_write() {
        let manifest = Picture::of_tiles(64).manifest(&Cid::raw(b"module"));
        worldcompute_node::manifest::Manifest::parse(manifest.as_bytes()).unwrap();
    }
}
