//! Images: store closures projected into OCI layouts, archives and registries.
