//! Whether a path is on a file system that another machine serves.

use std::path::Path;

/// The `f_type` of Linux file systems whose locks or syncs reach over a network.
const NETWORK: [(u32, &str); 15] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x00c3_6400, "Ceph"),
    (0x6573_5546, "FUSE"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x0102_1997, "9p"),
    (0x1983_0326, "BeeGFS"),
    (0x0116_1970, "GFS"),
    (0x7461_636f, "OCFS2"),
    (0xaad7_aaea, "PanFS"),
];

/// The name of the network file system that `path` is on; `None` on a local one, or where it can't be told.
pub fn network_fs(path: &Path) -> Option<&'static str> {
    let found = rustix::fs::statfs(path).ok()?;
    // The type is signed or not, and of 32 or 64 bits, by platform: the low 32 bits tell.
    named(found.f_type as u32)
}

fn named(f_type: u32) -> Option<&'static str> {
    NETWORK
        .iter()
        .find(|(magic, _)| *magic == f_type)
        .map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_folder_is_local_and_nfs_is_not() {
        assert_eq!(network_fs(Path::new("/proc")), None);
        assert_eq!(network_fs(Path::new("/no/such/folder")), None);
        assert_eq!(named(0x6969), Some("NFS"));
        assert_eq!(named(0xff53_4d42_u32), Some("CIFS"));
    }
}
