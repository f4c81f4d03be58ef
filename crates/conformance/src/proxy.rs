//! A connection that can be cut, between a server and what it needs.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// How the bytes of the server are passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
    /// They pass.
    Pass,
    /// They come so much later.
    Late(Duration),
    /// They are lost, and the connection stays.
    Lost,
    /// The first half of them passes, and the connection ends.
    Half,
}

/// Forwards connections until it is cut.
#[derive(Debug, Clone)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    is_cut: watch::Sender<bool>,
    /// What the client must say for the server's next words to be lost.
    trap: Mutex<Option<Vec<u8>>>,
    words: Mutex<Words>,
}

impl Proxy {
    /// A way to `host:port`.
    pub async fn start(upstream: (String, u16)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            is_cut: watch::channel(false).0,
            trap: Mutex::new(None),
            words: Mutex::new(Words::Pass),
        });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, upstream.clone(), Arc::clone(&shared)));
            }
        });
        Self { address, state }
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections, and new ones at once.
    pub fn cut(&self) {
        self.state.is_cut.send_replace(true);
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.state.is_cut.send_replace(false);
    }

    /// Passes the next words with `text` on to the server, and ends all connections before it can answer.
    pub fn lose_answer_to(&self, text: &str) {
        *self.trap() = Some(text.as_bytes().to_vec());
    }

    /// Decides what becomes of the server's words from now on.
    pub fn set_words(&self, words: Words) {
        *self.state.words.lock().unwrap_or_else(PoisonError::into_inner) = words;
    }

    fn trap(&self) -> std::sync::MutexGuard<'_, Option<Vec<u8>>> {
        self.state.trap.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn springs(&self, words: &[u8]) -> bool {
        let mut trap = self.trap.lock().unwrap_or_else(PoisonError::into_inner);
        let springs =
            trap.as_ref().is_some_and(|text| words.windows(text.len()).any(|window| window == text));
        if springs {
            *trap = None;
        }
        springs
    }
}

async fn forward(mut client: TcpStream, upstream: (String, u16), state: Arc<State>) {
    let mut is_cut = state.is_cut.subscribe();
    if *is_cut.borrow() {
        return;
    }
    let Ok(mut server) = TcpStream::connect(upstream).await else { return };
    let (mut up, mut down) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => match read {
                Ok(read @ 1..) => {
                    let springs = state.springs(&up[..read]);
                    if server.write_all(&up[..read]).await.is_err() {
                        return;
                    }
                    if springs {
                        // The server has heard once it answers; the client does not hear that.
                        let _ = server.read(&mut down).await;
                        state.is_cut.send_replace(true);
                        return;
                    }
                }
                _ => return,
            },
            read = server.read(&mut down) => match read {
                Ok(read @ 1..) => {
                    let words = *state.words.lock().unwrap_or_else(PoisonError::into_inner);
                    let passing = match words {
                        Words::Pass => read,
                        Words::Late(time) => {
                            tokio::time::sleep(time).await;
                            read
                        }
                        Words::Lost => 0,
                        Words::Half => read / 2,
                    };
                    if client.write_all(&down[..passing]).await.is_err() || words == Words::Half {
                        return;
                    }
                }
                _ => return,
            },
            () = until_cut(&mut is_cut) => return,
        }
    }
}

async fn until_cut(is_cut: &mut watch::Receiver<bool>) {
    let _ = is_cut.wait_for(|is_cut| *is_cut).await;
}
