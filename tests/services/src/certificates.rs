//! A small certificate authority for TLS between clients and brokers, made by `openssl`.

use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// PEM files in one folder.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// The certificate of the authority: what a client trusts.
    pub authority: PathBuf,
    /// Key and certificate of the server, for `localhost` and 127.0.0.1, in one file.
    pub server: PathBuf,
    /// The certificate of a client.
    pub client: PathBuf,
    /// Its key.
    pub client_key: PathBuf,
}

impl Certificates {
    /// Makes them in `folder`, which exists.
    pub fn new(folder: &Path) -> Result<Self> {
        fs::write(
            folder.join("server.ext"),
            "subjectAltName=DNS:localhost,IP:127.0.0.1\n",
        )?;
        fs::write(folder.join("client.ext"), "extendedKeyUsage=clientAuth\n")?;
        openssl(
            folder,
            "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=tests -keyout ca.key -out ca.pem",
        )?;
        for name in ["server", "client"] {
            openssl(
                folder,
                &format!("req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"),
            )?;
            openssl(
                folder,
                &format!(
                    "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile {name}.ext -out {name}.crt"
                ),
            )?;
        }
        let both = [
            fs::read(folder.join("server.key"))?,
            fs::read(folder.join("server.crt"))?,
        ]
        .concat();
        fs::write(folder.join("server.pem"), both)?;
        Ok(Self {
            authority: folder.join("ca.pem"),
            server: folder.join("server.pem"),
            client: folder.join("client.crt"),
            client_key: folder.join("client.key"),
        })
    }
}

fn openssl(folder: &Path, arguments: &str) -> Result<()> {
    let answer = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .output()
        .context("openssl is missing: run `make setup`")?;
    ensure!(
        answer.status.success(),
        "openssl {arguments}: {}",
        String::from_utf8_lossy(&answer.stderr)
    );
    Ok(())
}
