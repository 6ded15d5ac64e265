//! Kubernetes manifests, decoded once to the model, with places and warnings.
