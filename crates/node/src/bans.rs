//! Who the operator has banned, kept in the home: a ban outlives the daemon.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Mutex;
use worldcompute_durable::{Mode, read_private, write_atomic};
use worldcompute_fault::{Category, Fault, Result, WcCode};
use worldcompute_mesh::Mesh;
use worldcompute_proof::PeerId;

use crate::api::Ban;
use crate::blocking::{blocking, whole};

/// The most peers that can be banned. A file of so many is below [`MAX_BYTES`].
pub const MAX_BANS: usize = 4096;
/// The longest reason, in characters.
pub const MAX_REASON: usize = 200;
/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 8 << 20;

/// The list, its file, and the mesh that keeps to it.
pub struct Bans {
    path: PathBuf,
    mesh: Mesh,
    list: Arc<Mutex<Vec<Ban>>>,
}

/// The bans in the file at `path`; none where there is no file.
///
/// # Errors
/// `bans_unreadable`: a node that does not know whom to refuse does not start.
pub fn read(path: &Path) -> Result<Vec<Ban>> {
    if path.symlink_metadata().is_err() {
        return Ok(Vec::new());
    }
    let bytes = read_private(path, MAX_BYTES)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Fault::new(
            Category::InvalidInput,
            "bans_unreadable",
            format!("{} is no list of bans: {error}", path.display()),
        )
        .hint("mend the file, or remove it to ban nobody")
    })
}

impl Bans {
    /// `list` is what the mesh was started with.
    pub fn new(path: PathBuf, mesh: Mesh, list: Vec<Ban>) -> Self {
        Self {
            path,
            mesh,
            list: Arc::new(Mutex::new(list)),
        }
    }

    /// Everybody that is banned, in the order in which they were.
    pub async fn list(&self) -> Vec<Ban> {
        self.list.lock().await.clone()
    }

    /// Bans a peer. One that is banned keeps its place, with the new reason.
    ///
    /// # Errors
    /// `own_peer`, `reason_too_long`, `too_many_bans`; those of writing the file.
    pub async fn add(&self, peer: PeerId, reason: String) -> Result<Ban> {
        if peer == self.mesh.peer_id() {
            return Err(invalid("own_peer", "a node does not ban itself".to_owned()));
        }
        if reason.chars().count() > MAX_REASON {
            let most = format!("a reason has at most {MAX_REASON} characters");
            return Err(invalid("reason_too_long", most));
        }
        let ban = Ban {
            subject_id: peer,
            reason,
            since: Timestamp::now().to_string(),
        };
        let mut list = self.list.clone().lock_owned().await;
        let mut next = list.clone();
        let known = next.iter().position(|known| known.subject_id == peer);
        match known.and_then(|index| next.get_mut(index)) {
            Some(known) => *known = ban.clone(),
            None if list.len() >= MAX_BANS => return Err(too_many()),
            None => next.push(ban.clone()),
        }
        let (path, mesh) = (self.path.clone(), self.mesh.clone());
        whole(async move {
            write(path, next.clone()).await?;
            *list = next;
            mesh.ban(peer).await;
            Ok(ban)
        })
        .await
    }

    /// Lets a peer in again, and returns the ban that it had.
    ///
    /// # Errors
    /// `NotFound` for one that is not banned; those of writing the file.
    pub async fn remove(&self, peer: &PeerId) -> Result<Ban> {
        let mut list = self.list.clone().lock_owned().await;
        let Some(ban) = list.iter().find(|ban| ban.subject_id == *peer).cloned() else {
            return Err(Fault::wc(WcCode::NotFound, format!("{peer} is not banned"))
                .hint("see who is with 'worldcompute admin status'"));
        };
        let mut next = list.clone();
        next.retain(|ban| ban.subject_id != *peer);
        let (path, mesh, peer) = (self.path.clone(), self.mesh.clone(), *peer);
        whole(async move {
            write(path, next.clone()).await?;
            *list = next;
            mesh.unban(peer).await;
            Ok(ban)
        })
        .await
    }
}

async fn write(path: PathBuf, list: Vec<Ban>) -> Result<()> {
    blocking(move || {
        let text = serde_json::to_string_pretty(&list).map_err(|error| {
            Fault::new(
                Category::InternalFailure,
                "bans_unwritable",
                error.to_string(),
            )
        })?;
        write_atomic(&path, (text + "\n").as_bytes(), Mode::Private)
    })
    .await
}

fn too_many() -> Fault {
    invalid(
        "too_many_bans",
        format!("{MAX_BANS} peers are banned already"),
    )
    .hint("let some in again with 'worldcompute admin unban'")
}

fn invalid(code: &'static str, what: String) -> Fault {
    Fault::new(Category::InvalidInput, code, what)
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use worldcompute_mesh::MeshConfig;
    use worldcompute_proof::SigningKey;

    use super::*;

    fn peer(seed: u64) -> PeerId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        SigningKey::from_seed(bytes).peer_id()
    }

    async fn bans(path: &Path) -> Bans {
        let key = SigningKey::from_seed([1; 32]);
        let (mesh, _inbound) = Mesh::start(MeshConfig::new(key)).await.unwrap();
        Bans::new(path.to_owned(), mesh, read(path).unwrap())
    }

    #[tokio::test]
    async fn a_ban_is_in_the_file_until_it_is_lifted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("banned.json");
        let (one, other) = (peer(2), peer(3));
        let first = bans(&path).await;
        first.add(one, "floods".to_owned()).await.unwrap();
        first.add(other, String::new()).await.unwrap();
        first.add(one, "floods again".to_owned()).await.unwrap();
        let again = bans(&path).await;
        let list = again.list().await;
        let told: Vec<_> = list
            .iter()
            .map(|ban| (ban.subject_id, ban.reason.as_str()))
            .collect();
        assert_eq!(told, [(one, "floods again"), (other, "")]);
        assert_eq!(again.remove(&one).await.unwrap().reason, "floods again");
        assert_eq!(read(&path).unwrap().len(), 1);
        let fault = again.remove(&one).await.unwrap_err();
        assert_eq!(fault.number(), Some(WcCode::NotFound));
    }

    #[tokio::test]
    async fn a_ban_whose_asker_is_gone_is_no_half_ban() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("banned.json");
        let bans = bans(&path).await;
        let polled = poll_once(bans.add(peer(2), String::new())).await;
        assert!(polled.is_pending(), "it was over before it could be left");
        bans.add(peer(3), String::new()).await.unwrap();
        let banned = |list: Vec<Ban>| list.iter().map(|ban| ban.subject_id).collect::<Vec<_>>();
        assert_eq!(banned(bans.list().await), [peer(2), peer(3)]);
        assert_eq!(banned(read(&path).unwrap()), [peer(2), peer(3)]);
    }

    /// What a future comes to that is dropped after its first step.
    async fn poll_once<T>(work: impl Future<Output = T>) -> Poll<T> {
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await
    }

    #[tokio::test]
    async fn bans_are_bounded_and_nobody_bans_itself() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("banned.json");
        let bans = bans(&path).await;
        let long = "é".repeat(MAX_REASON);
        let ban = |seed| Ban {
            subject_id: peer(seed),
            reason: long.clone(),
            since: Timestamp::now().to_string(),
        };
        *bans.list.lock().await = (2..).map(ban).take(MAX_BANS - 1).collect();
        bans.add(peer(1), long.clone()).await.unwrap();
        assert_eq!(read(&path).unwrap().len(), MAX_BANS);
        let code = |refused: Result<Ban>| refused.unwrap_err().code().to_owned();
        assert_eq!(
            code(bans.add(peer(0), String::new()).await),
            "too_many_bans"
        );
        assert_eq!(code(bans.add(peer(1), long + "x").await), "reason_too_long");
        let own = SigningKey::from_seed([1; 32]).peer_id();
        assert_eq!(code(bans.add(own, String::new()).await), "own_peer");
    }

    #[test]
    fn a_list_that_cannot_be_read_is_not_taken_for_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("banned.json");
        assert!(read(&path).unwrap().is_empty());
        write_atomic(&path, b"[{}]", Mode::Private).unwrap();
        assert_eq!(read(&path).unwrap_err().code(), "bans_unreadable");
    }
}
