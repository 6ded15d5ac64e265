//! What can go wrong between a kubeconfig and an answer.

/// Why a cluster could not be asked, or gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A kubeconfig that cannot be read, or lacks what it names.
    #[error("{file} cannot be used: {why}; mend it, or name another kubeconfig or context")]
    Kubeconfig {
        /// The file, or where it was looked for.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// No kubeconfig anywhere.
    #[error("there is no cluster to ask: neither $KUBECONFIG nor ~/.kube/config names one; name a kubeconfig")]
    NoKubeconfig,
    /// A token, certificate or credential plugin that gives no credentials.
    #[error("there are no credentials for the API server {server}: {why}; mend the user in the kubeconfig")]
    Credentials {
        /// The API server.
        server: String,
        /// What is wrong with them.
        why: String,
    },
    /// No connection.
    #[error("the API server {server} cannot be reached: {why}; see whether it runs, and whether the kubeconfig has its address")]
    Unreachable {
        /// The API server.
        server: String,
        /// The system's words.
        why: String,
    },
    /// A server that is not the one that the kubeconfig means.
    #[error(
        "the API server {server} is not trusted: {why}; see certificate-authority and tls-server-name of the cluster in the kubeconfig"
    )]
    Untrusted {
        /// The API server.
        server: String,
        /// What is wrong with its certificate.
        why: String,
    },
    /// No answer in time.
    #[error(
        "the API server {server} did not give {what} within {seconds} s; see whether it is overloaded or behind a firewall, then try again"
    )]
    TimedOut {
        /// The API server.
        server: String,
        /// What was asked for.
        what: String,
        /// The limit.
        seconds: f64,
    },
    /// 401.
    #[error(
        "the API server {server} does not know who asks for {what} (401): the token or certificate in the kubeconfig is wrong or has expired; get a new one"
    )]
    Unauthorized {
        /// The API server.
        server: String,
        /// What was asked for.
        what: String,
    },
    /// 403.
    #[error("the API server {server} refuses {what} (403): {message}; use a user who may list and get them")]
    Forbidden {
        /// The API server.
        server: String,
        /// What was asked for.
        what: String,
        /// The server's words.
        message: String,
    },
    /// 404.
    #[error("the API server {server} does not have {what} (404): {message}; see whether this is the cluster and the name that you mean")]
    NotFound {
        /// The API server.
        server: String,
        /// What was asked for.
        what: String,
        /// The server's words.
        message: String,
    },
    /// 410: a list that took longer to read than the server keeps its state.
    #[error("the API server {server} forgot {what} before all was read (410); try again")]
    Gone {
        /// The API server.
        server: String,
        /// What was asked for.
        what: String,
    },
    /// Any other answer than 200.
    #[error("the API server {server} answered {code} when asked for {what}: {message}; see the server's log")]
    Refused {
        /// The API server.
        server: String,
        /// What was asked for.
        what: String,
        /// The HTTP status.
        code: u16,
        /// The server's words.
        message: String,
    },
    /// An answer bigger than the limit.
    #[error("the API server {server} gave more than {limit} bytes of {what}; ask for one namespace")]
    TooBig {
        /// The API server.
        server: String,
        /// What was asked for.
        what: String,
        /// The limit for the whole list.
        limit: u64,
    },
    /// An answer that is not what the Kubernetes API answers.
    #[error("what {server} gave for {what} is not an answer of the Kubernetes API: {why}; see whether the kubeconfig has its address")]
    Garbled {
        /// The API server.
        server: String,
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A name that no namespace or pod can have.
    #[error("{0:?} cannot be the name of a namespace or a pod; give a DNS-1123 name")]
    Name(String),
    /// The private runtime.
    #[error("no connection can be made from here: {0}; see this process's limits of open files and threads")]
    Runtime(#[source] std::io::Error),
}
