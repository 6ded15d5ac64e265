//! Images: content store, archives, unpacking, root file systems.
