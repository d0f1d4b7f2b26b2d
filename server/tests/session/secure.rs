//! Encrypted, authenticated sessions, with the client library; certificates are made here.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redostream_client::protocol::control::{From as Place, Until};
use redostream_client::{ClientError, Control, Options, Subscription, Tls};
use redostream_protocol::wire::FaultCode;
use redostream_server::access::{
    Attempts, AttemptsOptions, NewToken, TlsFiles, TokenEntry, Tokens, authorise_by, server_config,
};
use redostream_server::session::{
    FileStore, Listeners, SessionOptions, SessionServer, SubscriptionStore,
};
use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject;
use tokio::net::{TcpListener, TcpStream};

use crate::authority::Authority;
use crate::stream::{Random, blocks, units};

struct Secured {
    server: SessionServer,
    options: Options,
    wanted: usize,
    directory: tempfile::TempDir,
}

/// What clients must show.
#[derive(Default)]
struct Wanted<'a> {
    client_authority: Option<&'a Authority>,
    tokens: Vec<TokenEntry>,
}

async fn serve(authority: &Authority, wanted: Wanted<'_>) -> Secured {
    let mut random = Random(5);
    let units = units(&mut random, 60, 20);
    let cut = blocks(&mut random, &units, 30);
    let end = cut.last().unwrap().block.wal_end;
    let (certificate, key) = authority.sign("127.0.0.1");
    let files = TlsFiles {
        certificate,
        key,
        client_authorities: wanted.client_authority.map(|other| other.path("ca.pem")),
    };
    let tokens = Tokens::new(&wanted.tokens).unwrap();
    let attempts = Attempts::new(AttemptsOptions {
        refill: Duration::from_secs(600),
        ..AttemptsOptions::default()
    });
    let options = SessionOptions {
        authorise: (!tokens.is_empty()).then(|| authorise_by(Arc::new(tokens).into(), attempts)),
        data_tls: Some(server_config(&files, &[]).unwrap().into()),
        control_tls: Some(server_config(&files, &["h2"]).unwrap().into()),
        ..SessionOptions::default()
    };
    let listener = || TcpListener::bind("127.0.0.1:0");
    let listeners = Listeners {
        control: listener().await.unwrap(),
        data: listener().await.unwrap(),
    };
    let directory = tempfile::tempdir().unwrap();
    let store = Box::new(FileStore::open(directory.path()).unwrap());
    let blocks = crate::fixed(cut);
    let server = SessionServer::start(Arc::new(blocks), store, listeners, options).unwrap();
    let mut options = Options::new([server.control_address().to_string()]);
    options.from = Some(Place::Earliest);
    options.until = Some(Until::Lsn(end));
    options.reconnect = false;
    options.streams = 3;
    options.tls = Some(Tls {
        authorities: authority.path("ca.pem"),
        identity: None,
    });
    Secured {
        server,
        options,
        wanted: crate::expected(&units, crate::ALL, None, None).len(),
        directory,
    }
}

async fn count(options: &Options) -> Result<usize, ClientError> {
    let mut subscription = Subscription::open(options.clone()).await?;
    let mut events = 0;
    while subscription.next_event().await?.is_some() {
        events += 1;
    }
    Ok(events)
}

fn code(result: &Result<usize, ClientError>) -> FaultCode {
    match result {
        Err(ClientError::Fault(fault)) => fault.code,
        other => panic!("{other:?}"),
    }
}

/// A handshake with one version of TLS alone.
async fn handshake(
    address: SocketAddr,
    authority: &Path,
    version: &'static rustls::SupportedProtocolVersion,
) -> std::io::Result<()> {
    let mut roots = rustls::RootCertStore::empty();
    let certificate = rustls_pki_types::CertificateDer::from_pem_file(authority).unwrap();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_planes_speak_tls_13_and_nothing_else() {
    let authority = Authority::new();
    let secured = serve(&authority, Wanted::default()).await;
    assert_eq!(count(&secured.options).await.unwrap(), secured.wanted);

    let mut plain = secured.options.clone();
    plain.tls = None;
    assert_eq!(count(&plain).await.unwrap_err().exit_status(), 1);
    let mut stranger = secured.options.clone();
    let other = Authority::new();
    stranger.tls = Some(Tls {
        authorities: other.path("ca.pem"),
        identity: None,
    });
    let refusal = count(&stranger).await.unwrap_err();
    assert!(refusal.to_string().contains("certificate"), "{refusal}");

    let ca = authority.path("ca.pem");
    let control = secured.server.control_address();
    handshake(control, &ca, &rustls::version::TLS13)
        .await
        .unwrap();
    for address in [control, secured.server.data_address()] {
        let refused = handshake(address, &ca, &rustls::version::TLS12).await;
        assert!(refused.is_err(), "TLS 1.2 at {address}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_show_certificates_where_they_are_wanted() {
    let (authority, clients, others) = (Authority::new(), Authority::new(), Authority::new());
    let wanted = Wanted {
        client_authority: Some(&clients),
        ..Wanted::default()
    };
    let secured = serve(&authority, wanted).await;
    let with = |identity| {
        let mut options = secured.options.clone();
        options.tls = Some(Tls {
            authorities: authority.path("ca.pem"),
            identity,
        });
        options
    };
    let good = with(Some(clients.sign("a client")));
    assert_eq!(count(&good).await.unwrap(), secured.wanted);
    for bad in [with(None), with(Some(others.sign("a client")))] {
        assert_eq!(count(&bad).await.unwrap_err().exit_status(), 1);
    }
}

fn token(name: &str, databases: &[&str], tables: &[&str]) -> NewToken {
    let owned = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
    NewToken::make(name.to_owned(), owned(databases), owned(tables)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_let_in_as_far_as_they_reach() {
    let authority = Authority::new();
    let all = token("all", &[], &[]);
    let narrow = token("narrow", &["one"], &["public.a"]);
    let wanted = Wanted {
        tokens: vec![all.entry.clone(), narrow.entry.clone()],
        ..Wanted::default()
    };
    let secured = serve(&authority, wanted).await;
    let with = |token: Option<&str>| {
        let mut options = secured.options.clone();
        options.token = token.map(str::to_owned);
        options
    };
    assert_eq!(code(&count(&with(None)).await), FaultCode::Unauthorised);
    let wrong = count(&with(Some("rst_0"))).await;
    assert_eq!(code(&wrong), FaultCode::Unauthorised);
    assert_eq!(wrong.unwrap_err().exit_status(), 5);
    let full = with(Some(&all.token));
    assert_eq!(count(&full).await.unwrap(), secured.wanted);

    // The same as asking for no more than is allowed, but for messages.
    let mut asked = full.clone();
    asked.databases = vec!["one".into()];
    asked.tables = vec!["public.a".into()];
    let some = count(&asked).await.unwrap();
    assert!(some > 0 && some < secured.wanted);
    let mut narrowed = with(Some(&narrow.token));
    assert_eq!(count(&narrowed).await.unwrap(), some);
    narrowed.kinds = vec!["message".into()];
    assert_eq!(
        count(&narrowed).await.unwrap(),
        0,
        "messages tell of any table"
    );
    narrowed.kinds.clear();
    for (databases, tables) in [(vec!["two"], vec![]), (vec![], vec!["public.b"])] {
        let mut greedy = narrowed.clone();
        greedy.databases = databases.into_iter().map(str::to_owned).collect();
        greedy.tables = tables.into_iter().map(str::to_owned).collect();
        assert_eq!(code(&count(&greedy).await), FaultCode::Unauthorised);
    }

    let mut greedy = narrowed.clone();
    greedy.columns = vec![("public.b".into(), vec!["k".into()])];
    assert_eq!(code(&count(&greedy).await), FaultCode::Unauthorised);
    greedy.columns = vec![("public.*".into(), vec!["v".into()])];
    assert_eq!(count(&greedy).await.unwrap(), some);

    // A name belongs to the token it was made with.
    let mut named = full.clone();
    named.name = Some("cdc".into());
    count(&named).await.unwrap();
    named.token = Some(narrow.token.clone());
    assert_eq!(code(&count(&named).await), FaultCode::Unauthorised);
    let kept = FileStore::open(secured.directory.path())
        .unwrap()
        .load()
        .unwrap();
    assert_eq!(kept[0].owner, "all");
    let server = &secured.options.servers[0];
    let connect = async |token: &str| {
        let tls = secured.options.tls.as_ref();
        Control::connect(server, Some(token), tls).await.unwrap()
    };
    let mut control = connect(&narrow.token).await;
    // Nor is it shown to others, connected or not.
    let mut own = with(Some(&narrow.token));
    own.name = Some("narrow".into());
    own.until = None;
    let holder = Subscription::open(own).await.unwrap();
    let mut seen = Vec::new();
    for token in [&narrow.token, &all.token] {
        let mut control = connect(token).await;
        let listed = control.subscriptions().await.unwrap().into_iter();
        let connected = control.status().await.unwrap().subscribers.into_iter();
        seen.push((
            listed.map(|one| one.name).collect::<Vec<_>>(),
            connected.map(|one| one.name).collect::<Vec<_>>(),
        ));
    }
    let of = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(seen[0], (of(&["narrow"]), of(&["narrow"])));
    assert_eq!(seen[1].0, of(&["cdc", "narrow"]));
    holder.close().await;
    let mut foreign = full.clone();
    foreign.name = Some("all, connected".into());
    foreign.until = None;
    let _holder = Subscription::open(foreign).await.unwrap();
    let connected = control.status().await.unwrap().subscribers;
    assert!(
        connected.iter().all(|one| one.name == "narrow"),
        "{connected:?}"
    );
    let refused = control.drop_subscription("cdc").await.unwrap_err();
    assert_eq!(refused.exit_status(), 5);
    connect(&all.token)
        .await
        .drop_subscription("cdc")
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_stopped_and_subscribers_do_not_feel_it() {
    let authority = Authority::new();
    let good = token("good", &[], &[]);
    let late = token("late", &[], &[]);
    let wanted = Wanted {
        tokens: vec![good.entry.clone(), late.entry.clone()],
        ..Wanted::default()
    };
    let secured = serve(&authority, wanted).await;
    let server = secured.options.servers[0].clone();
    let mut known = secured.options.clone();
    known.token = Some(good.token.clone());
    let mut running = Subscription::open(known.clone()).await.unwrap();
    running.next_event().await.unwrap().unwrap();

    let tls = secured.options.tls.clone();
    let mut guess = Control::connect(&server, Some("rst_guess"), tls.as_ref())
        .await
        .unwrap();
    let mut told_to_wait = 0;
    for _ in 0..50 {
        match guess.status().await.unwrap_err() {
            ClientError::Fault(fault) if fault.code == FaultCode::Overloaded => told_to_wait += 1,
            ClientError::Fault(fault) => assert_eq!(fault.code, FaultCode::Unauthorised),
            other => panic!("{other}"),
        }
    }
    assert_eq!(told_to_wait, 40);
    // A right guess looks like a wrong one now.
    let mut other = secured.options.clone();
    other.token = Some(late.token.clone());
    assert_eq!(code(&count(&other).await), FaultCode::Overloaded);
    // Who was known before does not notice, nor does who is connected.
    assert_eq!(count(&known).await.unwrap(), secured.wanted);
    let mut rest = 1;
    while running.next_event().await.unwrap().is_some() {
        rest += 1;
    }
    assert_eq!(rest, secured.wanted);
}
