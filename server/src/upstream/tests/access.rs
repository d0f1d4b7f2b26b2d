//! Being let in: passwords, TLS, several hosts.

use super::*;

const ROLES: &str = "
    set password_encryption = 'md5';
    create role by_md5 login replication password 'pw m';
    set password_encryption = 'scram-sha-256';
    create role by_scram login replication password 'pw:s';
    create role in_clear login replication password 'plain';
    create role nobody login password 'x';";

#[tokio::test]
async fn it_authenticates_in_every_way() {
    let Some(cluster) = running(15, &with_tcp()) else {
        return;
    };
    cluster.sql("postgres", ROLES).unwrap();
    set_hba(
        &cluster,
        "local all postgres trust\n\
         local replication nobody trust\n\
         host replication nobody 127.0.0.1/32 trust\n\
         local replication by_md5 md5\nhost replication by_md5 127.0.0.1/32 md5\n\
         local replication by_scram scram-sha-256\n\
         host replication by_scram 127.0.0.1/32 scram-sha-256\n\
         local replication in_clear password\nhost replication in_clear 127.0.0.1/32 password\n\
         local replication postgres trust\n",
    );
    let socket = format!("host={} port={}", cluster.root().display(), cluster.port());
    let tcp = format!("host=127.0.0.1 port={}", cluster.port());

    let mut connection = open(&format!("{socket} user=postgres")).await.unwrap();
    assert_eq!(connection.major_version().unwrap(), 15);
    assert!(!connection.in_recovery());
    connection.check_wal_level().await.unwrap();
    connection.close().await;
    for place in [&socket, &tcp] {
        open(&format!("{place} user=by_md5 password='pw m'"))
            .await
            .unwrap();
        open(&format!("{place} user=by_scram password=pw:s"))
            .await
            .unwrap();
        let wrong = refused(&format!("{place} user=by_scram password=other")).await;
        assert!(wrong.to_string().contains("28P01"), "{wrong}");
        assert!(!wrong.may_pass());
        let none = refused(&format!("{place} user=by_md5")).await;
        assert!(matches!(none, UpstreamError::NoPassword { .. }), "{none}");
        let barred = refused(&format!("{place} user=nobody")).await;
        assert!(
            matches!(barred, UpstreamError::NoPrivilege { .. }),
            "{barred}"
        );
        assert!(barred.to_string().contains("ALTER ROLE nobody REPLICATION"));
    }
    open(&format!("{socket} user=in_clear password=plain"))
        .await
        .unwrap();
    let clear = refused(&format!("{tcp} user=in_clear password=plain")).await;
    assert!(
        matches!(clear, UpstreamError::Authentication { .. }),
        "{clear}"
    );

    // From the password file.
    let file = cluster.root().join("pgpass");
    fs::write(
        &file,
        format!("127.0.0.1:{}:replication:by_scram:pw\\:s\n", cluster.port()),
    )
    .unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    open(&format!("{tcp} user=by_scram passfile={}", file.display()))
        .await
        .unwrap();

    // The first of several hosts is away.
    let several = format!(
        "host=127.0.0.1,127.0.0.1 port=1,{} user=by_md5 password='pw m'",
        cluster.port()
    );
    open(&several).await.unwrap();
    let missing = refused("host=/nonexistent user=x").await;
    assert!(
        matches!(missing, UpstreamError::CannotConnect { .. }),
        "{missing}"
    );
    assert!(missing.may_pass());
    let no_tls = refused(&format!("{tcp} user=by_md5 sslmode=require")).await;
    assert!(matches!(no_tls, UpstreamError::Tls { .. }), "{no_tls}");
    let target = refused(&format!(
        "{socket} user=postgres target_session_attrs=standby"
    ))
    .await;
    assert!(
        target.to_string().contains("target_session_attrs"),
        "{target}"
    );
    open(&format!(
        "{socket} user=postgres target_session_attrs=prefer-standby"
    ))
    .await
    .unwrap();
}

/// A CA, a certificate signed by it for `localhost`, and one that signs itself.
fn make_certificates(directory: &Path) {
    let run = |arguments: &str| {
        let mut command = Command::new("openssl");
        let output = command
            .args(arguments.split(' '))
            .current_dir(directory)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    fs::write(
        directory.join("extensions"),
        "subjectAltName=DNS:localhost\n",
    )
    .unwrap();
    run("req -new -x509 -days 30 -nodes -newkey rsa:2048 -subj /CN=ca -out ca.crt -keyout ca.key");
    run("req -new -nodes -newkey rsa:2048 -subj /CN=localhost -out server.csr -keyout server.key");
    run(
        "x509 -req -in server.csr -days 30 -CA ca.crt -CAkey ca.key -CAcreateserial -extfile extensions -out server.crt",
    );
    run(
        "req -new -x509 -days 30 -nodes -newkey rsa:2048 -sha384 -subj /CN=localhost -addext subjectAltName=DNS:localhost -out self.crt -keyout self.key",
    );
    run("req -new -nodes -newkey rsa:2048 -subj /CN=by_cert -out by_cert.csr -keyout by_cert.key");
    run(
        "x509 -req -in by_cert.csr -days 30 -CA ca.crt -CAkey ca.key -CAcreateserial -out by_cert.crt",
    );
    for key in ["server.key", "self.key"] {
        fs::set_permissions(directory.join(key), fs::Permissions::from_mode(0o600)).unwrap();
    }
    for file in ["ca.crt", "server.key", "server.crt", "self.key", "self.crt"] {
        Account::find()
            .unwrap()
            .give(&directory.join(file))
            .unwrap();
    }
}

#[tokio::test]
async fn it_speaks_tls() {
    let Some(mut cluster) = running(15, &with_tcp()) else {
        return;
    };
    cluster.sql("postgres", ROLES).unwrap();
    cluster
        .sql("postgres", "create role by_cert login replication")
        .unwrap();
    let made = tempfile::tempdir_in(cluster.root()).unwrap();
    fs::set_permissions(made.path(), fs::Permissions::from_mode(0o755)).unwrap();
    make_certificates(made.path());
    let path = |name: &str| made.path().join(name).display().to_string();
    set_hba(
        &cluster,
        "local all postgres trust\n\
         hostssl replication by_cert 127.0.0.1/32 cert\n\
         hostssl replication by_scram 127.0.0.1/32 scram-sha-256\n\
         hostssl replication in_clear 127.0.0.1/32 password\n\
         hostnossl replication by_md5 127.0.0.1/32 md5\n",
    );
    let use_certificate = |cluster: &mut Cluster, name: &str| {
        cluster
            .configure(&format!(
                "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\nssl_ca_file = '{}'\n",
                path(&format!("{name}.crt")),
                path(&format!("{name}.key")),
                path("ca.crt")
            ))
            .unwrap();
        cluster.restart(Stop::Fast).unwrap();
    };
    use_certificate(&mut cluster, "server");
    let port = cluster.port();
    let by_name =
        format!("host=localhost hostaddr=127.0.0.1 port={port} user=by_scram password=pw:s");
    let by_address = format!("host=127.0.0.1 port={port} user=by_scram password=pw:s");
    let ca = format!("sslrootcert={}", path("ca.crt"));
    let own = format!("sslrootcert={}", path("self.crt"));

    for good in [
        format!("{by_address} sslmode=prefer"),
        format!("{by_address} sslmode=allow"),
        format!("{by_address} sslmode=require"),
        format!("{by_address} sslmode=require channel_binding=require"),
        format!("{by_address} sslmode=require channel_binding=disable"),
        format!("{by_address} sslmode=verify-ca {ca}"),
        format!("{by_name} sslmode=verify-full {ca}"),
        format!("host=127.0.0.1 port={port} user=in_clear password=plain sslmode=require"),
        // TLS is offered, but this user is let in only without.
        format!("host=127.0.0.1 port={port} user=by_md5 password='pw m' sslmode=prefer"),
        format!(
            "host=127.0.0.1 port={port} user=by_cert sslmode=require sslcert={} sslkey={}",
            path("by_cert.crt"),
            path("by_cert.key")
        ),
    ] {
        if let Err(error) = open(&good).await {
            panic!("{good}: {error}");
        }
    }
    for bad in [
        format!("{by_address} sslmode=verify-full {ca}"),
        format!("{by_address} sslmode=verify-ca {own}"),
        format!("{by_address} sslmode=require {own}"),
        format!("{by_address} sslmode=verify-ca sslrootcert=/nonexistent"),
        format!("{by_address} sslmode=verify-ca"),
        format!(
            "{by_address} sslmode=verify-ca sslrootcert={}",
            path("by_cert.crt")
        ),
    ] {
        let error = refused(&bad).await;
        assert!(matches!(error, UpstreamError::Tls { .. }), "{bad}: {error}");
    }
    let error = refused(&format!("{by_address} sslmode=disable")).await;
    assert!(error.to_string().contains("28000"), "{error}");

    // A certificate that signs itself, with another hash for the channel binding.
    use_certificate(&mut cluster, "self");
    for good in [
        format!("{by_name} sslmode=verify-full channel_binding=require {own}"),
        format!("{by_address} sslmode=verify-ca {own}"),
    ] {
        if let Err(error) = open(&good).await {
            panic!("{good}: {error}");
        }
    }
    let error = refused(&format!("{by_address} sslmode=verify-full {own}")).await;
    assert!(matches!(error, UpstreamError::Tls { .. }), "{error}");
}
