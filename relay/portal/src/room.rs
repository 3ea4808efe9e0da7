//! Room for connections: so many in all, and of one address no more than its share, so that whoever
//! opens thousands and says nothing on them takes room from nobody else.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The room of a door.
pub struct Rooms {
    all: Arc<Semaphore>,
    share: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// Room for one connection; given back when dropped.
pub struct Room {
    // Never none but if the semaphore were closed, which it is not: then it would just not be counted.
    _all: Option<OwnedSemaphorePermit>,
    share: Option<Share>,
}

/// One of an address's share.
struct Share {
    of: IpAddr,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

fn lock(taken: &Mutex<HashMap<IpAddr, usize>>) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
    // Whole after every statement, so a panic elsewhere does not spoil it.
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whom an address stands for: who has one of IPv6 has its whole /64.
pub fn holder(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 => v4,
    }
}

impl Rooms {
    /// Room for `all` connections, of which an address has `share` at most.
    pub fn new(all: usize, share: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), share, taken: Arc::default() }
    }

    /// Waits for room, for a connection that has yet to come. Cancel-safe.
    pub async fn wait(&self) -> Room {
        Room { _all: Arc::clone(&self.all).acquire_owned().await.ok(), share: None }
    }

    /// Counts a connection that came. None if its address has its share.
    pub fn admit(&self, mut room: Room, from: Option<IpAddr>) -> Option<Room> {
        let Some(from) = from.map(holder) else { return Some(room) };
        let mut taken = lock(&self.taken);
        let count = taken.entry(from).or_default();
        if *count >= self.share {
            return None;
        }
        *count += 1;
        drop(taken);
        room.share = Some(Share { of: from, taken: Arc::clone(&self.taken) });
        Some(room)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if let Some(count) = taken.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.of);
            }
        }
    }
}
