//! An S3 server of this machine, with one empty bucket.

use crate::{Process, Program, free_port, python, scratch, wait_until};
use anyhow::{Context, Result, ensure};
use std::{net::TcpStream, process::Command, time::Duration};

/// The bucket that is there at the start.
const BUCKET: &str = "checkpoints";

/// A running server; dropping the handle ends it, and all that is in it.
#[derive(Debug)]
pub struct S3 {
    port: u16,
    process: Process,
}

impl S3 {
    /// Starts one.
    pub fn start() -> Result<Self> {
        let folder = scratch("s3")?.keep();
        let port = free_port()?;
        let process = Program::new(python()?, folder.join("log"))
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p"])
            .arg(port.to_string())
            .current_dir(&folder)
            .remove(&folder)
            .start()?;
        let server = Self { port, process };
        wait_until("the S3 server answers", Duration::from_secs(60), || {
            server.process.ensure_running()?;
            Ok(TcpStream::connect(("127.0.0.1", port)).is_ok())
        })?;
        let script = format!(
            "import boto3; boto3.client('s3', endpoint_url='{}').create_bucket(Bucket='{BUCKET}')",
            server.endpoint()
        );
        let made = Command::new(python()?)
            .args(["-c", &script])
            .envs(server.environment())
            .output()
            .context("could not run Python")?;
        ensure!(
            made.status.success(),
            "the bucket could not be made:\n{}",
            String::from_utf8_lossy(&made.stderr)
        );
        Ok(server)
    }

    /// Where it listens.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A place in it: `s3://bucket/prefix`.
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}")
    }

    /// The variables that a program needs to be let in.
    pub fn environment(&self) -> [(&'static str, &'static str); 3] {
        [
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ]
    }
}
