//! Sends what was drawn: connections with an identity and addresses, requests in a row on each.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use socket2::{Domain, Socket, Type};

use crate::envoy::TOKEN_HEADER;

/// What the connection shows.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    pub(crate) principal: Option<String>,
    pub(crate) sni: Option<String>,
    pub(crate) source: Ipv4Addr,
    pub(crate) remote: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) port: u16,
}

impl Wire {
    pub(crate) fn tls(&self) -> bool {
        self.principal.is_some() || self.sni.is_some()
    }
}

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

fn connect(wire: &Wire, port: u16, tls: Option<Arc<ClientConfig>>) -> Box<dyn Stream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddrV4::new(wire.source, 0).into())
        .unwrap();
    socket
        .connect(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into())
        .unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_nodelay(true).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let (remote, destination) = (wire.remote, wire.destination);
    let proxy = format!("PROXY TCP4 {remote} {destination} 40000 {}\r\n", wire.port);
    stream.write_all(proxy.as_bytes()).unwrap();
    let Some(config) = tls else {
        return Box::new(stream);
    };
    let name = wire.sni.as_deref().unwrap_or("unnamed.test").to_owned();
    let connection = ClientConnection::new(config, ServerName::try_from(name).unwrap()).unwrap();
    Box::new(StreamOwned::new(connection, stream))
}

/// Neither TLS nor HTTP, and long enough for the TLS inspector to see that at once.
const BYTES: &[u8] = b"bytes that are not HTTP";

/// Whether bytes get through.
pub(crate) fn bytes_pass(wire: &Wire, port: u16, tls: Option<Arc<ClientConfig>>) -> bool {
    let mut stream = connect(wire, port, tls);
    let mut byte = [0];
    if stream
        .write_all(BYTES)
        .and_then(|()| stream.flush())
        .is_err()
    {
        return false;
    }
    match stream.read(&mut byte) {
        Ok(count) => count == 1,
        Err(error) => {
            let waited = std::io::ErrorKind::WouldBlock;
            assert_ne!(error.kind(), waited, "no answer on TCP: {wire:?}");
            false
        }
    }
}

/// What came back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Whether the request still carried a token behind the filters.
    pub(crate) token: bool,
    closes: bool,
}

/// Answers to requests (their heads, whole), sent one after the other. Where Envoy ends the
/// connection after a response, the next request goes over a like one.
pub(crate) fn answers(
    wire: &Wire,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    requests: &[String],
) -> std::io::Result<Vec<Answer>> {
    let open = || BufReader::new(connect(wire, port, tls.clone()));
    let mut stream = open();
    let mut answers = Vec::new();
    for request in requests {
        stream.get_mut().write_all(request.as_bytes())?;
        stream.get_mut().flush()?;
        let answer = response(&mut stream)?;
        answers.push(answer);
        if answer.closes {
            stream = open();
        }
    }
    Ok(answers)
}

fn response(stream: &mut BufReader<Box<dyn Stream>>) -> std::io::Result<Answer> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("no status: {line:?}")))?;
    let (mut length, mut closes, mut token) = (0, false, false);
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        match name {
            "content-length" => length = value.parse().map_err(std::io::Error::other)?,
            "connection" => closes = value == "close",
            TOKEN_HEADER => token = value.starts_with("Bearer "),
            _ => {}
        }
    }
    stream.read_exact(&mut vec![0; length])?;
    Ok(Answer {
        status,
        token,
        closes,
    })
}
