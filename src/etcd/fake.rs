//! A fake gRPC server, for responses that etcd does not give.

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::Ipv4Addr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use hyper::{
    Request, Response,
    body::{Body, Bytes, Frame, Incoming},
    header::{HeaderMap, HeaderValue},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{self, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// A message, or a gRPC code with its text.
pub(super) type Answer = Result<Vec<u8>, (u8, &'static str)>;

/// Encodes a header of this cluster and two numbers, which is the form of the response to an empty transaction, a grant, a keepalive
/// and a revocation.
pub(super) fn message(cluster: u64, second: i64, third: i64) -> Answer {
    let mut header = vec![8];
    varint(&mut header, cluster);
    let mut message = vec![10, u8::try_from(header.len()).expect("a short header")];
    message.append(&mut header);
    for (tag, number) in [(16, second), (24, third)].into_iter().filter(|(_, number)| *number != 0) {
        message.push(tag);
        varint(&mut message, number.cast_unsigned());
    }
    Ok(message)
}

fn varint(to: &mut Vec<u8>, mut number: u64) {
    while number > 127 {
        to.push(u8::try_from(number & 127).expect("seven bits") | 128);
        number >>= 7;
    }
    to.push(u8::try_from(number).expect("seven bits"));
}

/// A server on loopback, until the test ends.
pub(super) struct Fake {
    pub(super) url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// Starts a server that answers calls by the name of the method.
    pub(super) async fn new(answer: impl Fn(&str) -> Answer + Clone + Send + 'static) -> Self {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let calls = Arc::clone(&asked);
        let url = listen(async move |stream| {
            let serve = move |request: Request<Incoming>| {
                let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
                let answer = answer(&method);
                calls.lock().expect("no panic").push(method);
                std::future::ready(Ok::<_, Infallible>(response(answer)))
            };
            let server = http2::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service_fn(serve)).await;
        });
        Self { url: url.await, asked }
    }

    /// Returns how often a method was called.
    pub(super) fn count(&self, method: &str) -> usize {
        self.asked.lock().expect("no panic").iter().filter(|asked| *asked == method).count()
    }
}

/// Starts a server that sends this text over each connection, and ignores its input. Returns its URL.
pub(super) async fn text_server(text: &'static str) -> String {
    listen(async move |mut stream| {
        let _ = stream.write_all(text.as_bytes()).await;
        let _ = io::copy(&mut stream, &mut io::sink()).await;
    })
    .await
}

async fn listen<F: Future<Output = ()> + Send + 'static>(
    serve: impl FnOnce(TcpStream) -> F + Clone + Send + 'static,
) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve.clone()(stream));
        }
    });
    format!("http://{address}")
}

fn response(answer: Answer) -> Response<Frames> {
    let (code, text, message) = match answer {
        Ok(message) => (0, "", Some(message)),
        Err((code, text)) => (code, text, None),
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(u16::from(code)));
    trailers.insert("grpc-message", HeaderValue::from_static(text));
    let data = message.map(|message| {
        let length = u32::try_from(message.len()).expect("a short message");
        Frame::data([&[0], &length.to_be_bytes()[..], &message].concat().into())
    });
    let frames = Frames(data.into_iter().chain([Frame::trailers(trailers)]).collect());
    let mut response = Response::new(frames);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

struct Frames(VecDeque<Frame<Bytes>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}
