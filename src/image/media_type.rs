//! Media types, and what they say about a document or a layer.
//!
//! Sources: OCI image-spec 1.1 `media-types.md`; Docker image manifest v2, schema 2.

/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image config.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI layer, uncompressed tar.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI layer, gzip.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// OCI layer, zstd.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker image manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker layer, gzip.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// Docker layer, uncompressed tar.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// What is asked for when a manifest is fetched; registries answer 404 for types that are not named.
pub const ACCEPT_MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// Compression of a layer blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LayerEncoding {
    /// A plain tar.
    Tar,
    /// A tar in one or more gzip members.
    Gzip,
    /// A tar in one or more zstd frames.
    Zstd,
}

/// Reads a layer's media type, OCI or Docker, distributable or not; `None` for anything else.
pub fn layer_encoding(media_type: &str) -> Option<LayerEncoding> {
    match media_type {
        OCI_LAYER | DOCKER_LAYER | "application/vnd.oci.image.layer.nondistributable.v1.tar" => {
            Some(LayerEncoding::Tar)
        }
        OCI_LAYER_GZIP
        | DOCKER_LAYER_GZIP
        | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip" => Some(LayerEncoding::Gzip),
        OCI_LAYER_ZSTD | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd" => {
            Some(LayerEncoding::Zstd)
        }
        _ => None,
    }
}

/// The OCI media type of a layer with this encoding.
pub const fn oci_layer(encoding: LayerEncoding) -> &'static str {
    match encoding {
        LayerEncoding::Tar => OCI_LAYER,
        LayerEncoding::Gzip => OCI_LAYER_GZIP,
        LayerEncoding::Zstd => OCI_LAYER_ZSTD,
    }
}
