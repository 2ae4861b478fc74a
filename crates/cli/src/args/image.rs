//! The grammar of `worldcompute image`.

use clap::{Args, Subcommand, ValueHint};
use worldcompute_node::image::Platform;

#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Bring an image in: verified, or not at all
    Import(ImageImportArgs),
    /// The images of this node
    #[command(
        after_help = "Examples:\n  worldcompute image list\n  worldcompute image list --json"
    )]
    List,
    /// Read an image again, verify all of it, and show what it would run
    #[command(
        after_help = "Examples:\n  worldcompute image inspect busybox\n  worldcompute image inspect bafkrei... --json\n\nExit status: 0 whole, 1 not, or not known."
    )]
    Inspect {
        /// Its name or its CID
        image: String,
    },
    /// Let an image go, and its bytes where nothing else needs them
    #[command(
        after_help = "Examples:\n  worldcompute image rm busybox\n  worldcompute image rm bafkrei...\n\nA name goes alone while the image has others; by its CID it goes with all of them."
    )]
    Rm {
        /// Its name or its CID
        image: String,
    },
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  worldcompute image import layout/ --name hello\n  worldcompute image import saved.tar --select hello:latest\n  worldcompute image import docker.io/library/busybox:1.36\n  worldcompute image import localhost:5000/hello:1\n\nWhat is there as a file or folder is read from there; anything else is the name of an image in a registry, which is asked as nobody in particular. A job names the image by the CID that is printed: image: oci+cid:<cid>."
)]
pub struct ImageImportArgs {
    /// An OCI layout (folder or tar), what 'docker save' made, or name:tag of a registry
    #[arg(value_hint = ValueHint::AnyPath)]
    pub source: String,

    /// Which image, where a layout or an archive holds several
    #[arg(long, value_name = "NAME")]
    pub select: Option<String>,

    /// What to call it, instead of what its source calls it
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// What it has to run on [default: linux and this machine's processor]
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<Platform>,

    /// Ask the registry by plain http also where that is not this machine
    #[arg(long)]
    pub allow_insecure_http: bool,
}
