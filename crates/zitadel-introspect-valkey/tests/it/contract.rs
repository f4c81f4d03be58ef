//! What every store must do. The store in memory does it as well.

use std::time::Duration;

use conformance::valkey::Server;
use zitadel_introspect::{
    Issuer,
    store::{Bid, LogId, MemoryStore, Place, SharedStore},
};
use zitadel_introspect_valkey::Valkey;

const SECOND: Duration = Duration::from_secs(1);

fn log() -> LogId {
    LogId::of(&Issuer::parse("https://issuer.example").unwrap())
}

async fn check(store: &dyn SharedStore) {
    let (first, second, epoch, other) = ([1; 16], [2; 16], [7; 16], [8; 16]);
    let nothing = Place::default();
    // A read makes the epoch, and another fresh one changes nothing.
    let page = store.read(log(), epoch, nothing).await.unwrap();
    assert_eq!((page.end, page.tail, page.entries.len()), (Place { epoch, number: 0 }, epoch, 0));
    assert_eq!(store.read(log(), other, nothing).await.unwrap().end.epoch, epoch);
    assert_eq!(store.append(log(), other, first, b"one\r\n\0").await.unwrap(), Place { epoch, number: 1 });
    assert_eq!(store.append(log(), other, second, b"two").await.unwrap(), Place { epoch, number: 2 });
    let page = store.read(log(), other, Place { epoch, number: 0 }).await.unwrap();
    assert_eq!((page.end.number, page.tail, page.heartbeat), (2, second, None));
    let entries: Vec<_> =
        page.entries.iter().map(|entry| (entry.number, entry.before, entry.id, &entry.sealed[..])).collect();
    assert_eq!(entries, [(1, epoch, first, &b"one\r\n\0"[..]), (2, first, second, b"two")]);
    assert!(page.time > SECOND * 1_700_000_000);
    let behind = |number| store.read(log(), other, Place { epoch, number });
    assert_eq!(behind(1).await.unwrap().entries.len(), 1);
    assert_eq!(behind(2).await.unwrap().entries.len(), 0);
    assert_eq!(store.read(log(), other, Place { epoch: other, number: 0 }).await.unwrap().entries.len(), 0);
    // One leads at a time.
    let lead = |who, lasts| store.lead(log(), Bid { who, lasts });
    assert!(lead(first, SECOND * 60).await.unwrap().is_some());
    assert!(lead(first, SECOND * 60).await.unwrap().is_some());
    assert_eq!(lead(second, SECOND * 60).await.unwrap(), None);
    store.resign(log(), second).await.unwrap();
    assert_eq!(lead(second, SECOND * 60).await.unwrap(), None, "who does not lead cannot resign");
    let beat =
        |who, number, epoch, tail| store.put_heartbeat(log(), who, Place { epoch, number }, tail, b"beat");
    assert!(!beat(second, 2, epoch, second).await.unwrap(), "who does not lead");
    assert!(!beat(first, 2, other, second).await.unwrap(), "another epoch");
    assert!(!beat(first, 2, epoch, first).await.unwrap(), "another entry");
    assert!(!beat(first, 3, epoch, first).await.unwrap(), "an entry that is not there");
    assert_eq!(behind(2).await.unwrap().heartbeat, None);
    assert!(beat(first, 0, epoch, epoch).await.unwrap() && beat(first, 1, epoch, first).await.unwrap());
    assert_eq!(behind(2).await.unwrap().heartbeat.as_deref(), Some(&b"beat"[..]));
    store.resign(log(), first).await.unwrap();
    assert!(!beat(first, 2, epoch, second).await.unwrap(), "who has resigned");
    assert!(lead(second, Duration::from_millis(50)).await.unwrap().is_some());
    tokio::time::sleep(Duration::from_millis(80)).await;
    assert!(!beat(second, 2, epoch, second).await.unwrap(), "whose time is over");
    assert!(lead(first, SECOND).await.unwrap().is_some());
    // Verdicts.
    let (name, unknown) = ([0xff; 32], [0xfe; 32]);
    assert_eq!(store.take(log(), &name).await.unwrap(), None);
    store.put(log(), &name, b"verdict\0", SECOND * 60).await.unwrap();
    assert_eq!(store.take(log(), &name).await.unwrap().as_deref(), Some(&b"verdict\0"[..]));
    assert_eq!(store.take(log(), &unknown).await.unwrap(), None);
    // A new epoch, if the old one still is the epoch.
    store.begin_anew(log(), other, first).await.unwrap();
    assert_eq!(behind(2).await.unwrap().end, Place { epoch, number: 2 });
    store.begin_anew(log(), epoch, other).await.unwrap();
    let page = behind(0).await.unwrap();
    assert_eq!((page.end, page.tail), (Place { epoch: other, number: 0 }, other));
    assert_eq!((page.heartbeat, page.entries.len()), (None, 0));
    assert_eq!(store.append(log(), first, second, b"x").await.unwrap(), Place { epoch: other, number: 1 });
    // Pages.
    for number in 0..300_u32 {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        store.append(log(), first, id, b"x").await.unwrap();
    }
    let page = store.read(log(), first, Place { epoch: other, number: 0 }).await.unwrap();
    assert_eq!((page.end.number, page.entries.len(), page.entries[63].number), (301, 64, 64));
}

#[tokio::test]
async fn the_store_in_memory_does_what_a_store_must_do() {
    check(&MemoryStore::new()).await;
}

#[tokio::test]
async fn the_store_on_a_server_does_what_a_store_must_do() {
    let Some(server) = Server::start(&[]).await else { return };
    let store = Valkey::builder(format!("redis://{}", server.address())).build().unwrap();
    check(&store).await;
    // Another user of the server has put something else there.
    server.say(&["FLUSHALL"]).await;
    server.say(&["SET", &format!("{{zi:{}}}:meta", log()), "?"]).await;
    assert!(store.read(log(), [1; 16], Place::default()).await.is_err());
}

#[tokio::test]
async fn the_rights_that_the_page_names_are_enough() {
    let page = std::fs::read_to_string("../../docs/deploying.md").unwrap();
    let named = page.split('`').filter(|part| part.starts_with("~{zi:") || part.starts_with('+'));
    let rights = named.collect::<Vec<_>>().join(" ");
    let (keys, commands) = rights.split_once(' ').unwrap();
    let settings =
        [&["--user", "api", "on", "nopass", keys][..], &commands.split(' ').collect::<Vec<_>>()].concat();
    let Some(server) = Server::start(&settings).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "any").unwrap();
    let url = format!("redis://api@{}", server.address());
    let store = Valkey::builder(url).password_file(&password).build().unwrap();
    check(&store).await;
    store.advise().await.unwrap();
}

#[tokio::test]
async fn a_log_whose_head_was_lost_begins_anew() {
    let Some(server) = Server::start(&[]).await else { return };
    let store = Valkey::builder(format!("redis://{}", server.address())).build().unwrap();
    for id in [[1; 16], [2; 16]] {
        store.append(log(), [7; 16], id, b"x").await.unwrap();
    }
    server.say(&["DEL", &format!("{{zi:{}}}:meta", log())]).await;
    let place = store.append(log(), [8; 16], [3; 16], b"y").await.unwrap();
    assert_eq!(place, Place { epoch: [8; 16], number: 1 });
    let page = store.read(log(), [9; 16], Place { epoch: [8; 16], number: 0 }).await.unwrap();
    assert_eq!(page.entries.len(), 1);
    // The entries alone.
    let bid = Bid { who: [4; 16], lasts: SECOND };
    assert!(store.lead(log(), bid).await.unwrap().is_some());
    assert!(store.put_heartbeat(log(), [4; 16], place, [3; 16], b"beat").await.unwrap());
    server.say(&["DEL", &format!("{{zi:{}}}:log", log())]).await;
    let page = store.read(log(), [9; 16], place).await.unwrap();
    assert_eq!((page.end, page.heartbeat), (Place { epoch: [9; 16], number: 0 }, None));
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_left() {
    let (Some(server), Some(master)) = (Server::start(&[]).await, Server::start(&[]).await) else { return };
    let store = Valkey::builder(format!("redis://{}", server.address())).build().unwrap();
    store.append(log(), [7; 16], [1; 16], b"x").await.unwrap();
    let connections = async || server.say(&["INFO", "stats"]).await;
    let count = |info: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
        line.unwrap().trim().parse::<u32>().unwrap()
    };
    server.say(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]).await;
    let before = count(&connections().await);
    for id in [[2; 16], [3; 16]] {
        let error = store.append(log(), [7; 16], id, b"x").await.unwrap_err().to_string();
        assert!(error.contains("READONLY") || error.contains("read only"), "{error}");
    }
    // That of the question itself, and one of the store.
    assert!(count(&connections().await) >= before + 2, "another connection may lead to another server");
}
