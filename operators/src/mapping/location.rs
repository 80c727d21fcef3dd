//! A URL or path in the form in which two spellings of one place are equal.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Where a file is: host and folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    /// Scheme and host, lower case, without the scheme's default port; empty for a local path.
    root: String,
    /// The names along the path, percent-decoded, without empty ones and `.`; none is `..`, and
    /// none has a slash or a control character.
    pub(super) segments: Vec<String>,
    /// Slashes at the start of the path.
    pub(super) slashes: usize,
}

impl Location {
    /// Takes `url` apart. `Err` is the rest of a sentence that starts with the URL.
    pub(super) fn parse(url: &str) -> Result<Self, &'static str> {
        let (root, path) = match url.split_once("://") {
            Some((scheme, after)) if is_scheme(scheme) => {
                let (authority, path) = after.split_at(after.find(['/', '?', '#']).unwrap_or(after.len()));
                (root(&scheme.to_ascii_lowercase(), authority)?, path)
            }
            _ if url.starts_with('/') => (String::new(), url),
            _ => return Err("is neither a URL nor an absolute path"),
        };
        if path.contains(['?', '#']) {
            return Err("has a query or a fragment");
        }
        let slashes = path.len() - path.trim_start_matches('/').len();
        let mut segments = Vec::new();
        for segment in path.split('/') {
            let decoded = percent_decode_str(segment)
                .decode_utf8()
                .map_err(|_| "is not UTF-8 once percent-decoded")?;
            check(&decoded)?;
            if !matches!(decoded.as_ref(), "" | ".") {
                segments.push(decoded.into_owned());
            }
        }
        Ok(Self {
            root,
            segments,
            slashes,
        })
    }

    /// True when this is `folder` or anything in it.
    pub(super) fn is_below(&self, folder: &Location) -> bool {
        self.root == folder.root && self.segments.starts_with(&folder.segments)
    }
}

/// Refuses whatever another program could take for more than one name.
fn check(segment: &str) -> Result<(), &'static str> {
    if segment == ".." {
        return Err("has `..` in it");
    }
    if segment.contains('/') {
        return Err("has an encoded slash in it");
    }
    if segment.chars().any(char::is_control) {
        return Err("has a control character in it");
    }
    // Decoded again further on, `%2e%2e` would become `..`.
    let twice = segment
        .as_bytes()
        .windows(3)
        .any(|three| three[0] == b'%' && three[1].is_ascii_hexdigit() && three[2].is_ascii_hexdigit());
    if twice {
        return Err("is percent-encoded twice");
    }
    Ok(())
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// `scheme://authority`, as equal places have it equal.
fn root(scheme: &str, authority: &str) -> Result<String, &'static str> {
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    let host = host.to_ascii_lowercase();
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
        _ => (host.as_str(), ""),
    };
    if scheme == "file" {
        return if matches!(host, "" | "localhost") {
            Ok(String::new())
        } else {
            Err("is a file of another host")
        };
    }
    if host.is_empty() {
        return Err("has no host");
    }
    let mut root = format!("{scheme}://");
    if let Some(user) = user {
        root.push_str(user);
        root.push('@');
    }
    root.push_str(host);
    if !port.is_empty() && Some(port) != default_port(scheme) {
        root.push(':');
        root.push_str(port);
    }
    Ok(root)
}

/// The port that a URL of this scheme means when it has none.
fn default_port(scheme: &str) -> Option<&'static str> {
    Some(match scheme {
        "root" | "roots" | "xroot" | "xroots" => "1094",
        "https" | "davs" => "443",
        "http" | "dav" => "80",
        "gsiftp" => "2811",
        "ftp" => "21",
        "sftp" | "ssh" => "22",
        _ => return None,
    })
}

/// Everything but what RFC 3986 lets stand in a segment of a path.
const NOT_IN_A_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// The path of a URI made of these names.
pub(super) fn encoded(segments: &[String]) -> String {
    let mut path = String::new();
    for (at, segment) in segments.iter().enumerate() {
        if at > 0 {
            path.push('/');
        }
        path.extend(utf8_percent_encode(segment, NOT_IN_A_SEGMENT));
    }
    path
}
