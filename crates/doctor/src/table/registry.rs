//! Registries: what keeps an image from coming.

use super::image::SANDBOX;
use crate::diagnose::{Diagnosis, row, says};
use crate::finding::Severity::{Degrades, StopsPods};

/// Causes with rows of their own, by what is said beside them; and probes, which speak of the same errors.
const KNOWN: &[&str] = &[
    "sandbox image",
    "pause",
    "probe",
    "x509",
    "HTTP response to HTTPS",
    "no such host",
    "server misbehaving",
    "TLS handshake timeout",
    "Client.Timeout",
    "proxyconnect",
];
/// A probe's words on what it asked.
const PROBE: &[&str] = &["probe"];

pub(super) const ROWS: &[Diagnosis] = &[
    row(
        "image-pull-denied",
        "the registry refuses the image",
        StopsPods,
        "The registry does not give <image> to this node: the repository is private or does not exist, or the credentials are wrong. Log in on this machine, or make a pull secret and name it in the pod's imagePullSecrets.",
        &["docker login", "cofferdam image pull <image>"],
    )
    .in_cluster(&["kubectl create secret docker-registry NAME --namespace=<namespace> --docker-server=SERVER --docker-username=USER --docker-password=PASSWORD"])
    .heard(&[
        says(": image <image> cannot be pulled: <_> does not give <_> without other credentials"),
        says("image <image> cannot be pulled: <_> does not give <_> without other credentials"),
        says("does not give <image> without other credentials"),
        says(": image <image> cannot be pulled: <_> forbids <_> (4"),
        says("image <image> cannot be pulled: <_> forbids <_> (4"),
        says(" forbids <image> (403"),
        says("Failed to pull image \"<image>\": <_>authorization failed"),
        says("Failed to pull image \"<image>\": <_>401 Unauthorized"),
        says("Failed to pull image \"<image>\": <_>403 Forbidden"),
        says("failed to resolve reference \"<image>\": <_>403 Forbidden").unless(SANDBOX),
        says("failed to resolve reference \"<image>\": <_>401 Unauthorized").unless(SANDBOX),
        says("pull access denied").unless(SANDBOX),
        says("unauthorized: authentication required").unless(SANDBOX),
        says("no basic auth credentials").unless(SANDBOX),
        says("Failed to pull image \"<image>\": <_>denied:"),
    ]),
    row(
        "pull-secret-missing",
        "a pull secret does not exist",
        Degrades,
        "The pod names the pull secret <secret> and its namespace has none of that name, so its image was asked for without credentials. Make the secret, or correct imagePullSecrets of the pod or of its service account.",
        &["cofferdam check -f MANIFEST"],
    )
    .in_cluster(&["kubectl get secrets --namespace=<namespace> --field-selector type=kubernetes.io/dockerconfigjson"])
    .heard(&[says("Unable to retrieve some image pull secrets (<secret>)"), says("FailedToRetrieveImagePullSecret")]),
    row(
        "registry-credentials-broken",
        "a file or helper of credentials cannot be used",
        StopsPods,
        "What should hold the credentials for the registry, <path>, cannot be read, or the helper program that it names fails; the message says where. Log in anew, which writes the file again, or install the helper.",
        &["docker login", "ls -l /root/.docker/config.json"],
    )
    .heard(&[
        says("the credentials of <path> cannot be used"),
        says("the credential helper <helper>, which <path> names, gave nothing"),
        says("error getting credentials - err: exec: \"<helper>\": executable file not found"),
    ]),
    row(
        "registry-rate-limit",
        "the registry's rate limit is reached",
        StopsPods,
        "The registry counts pulls and refuses more of them for now. Log in, use a mirror, or wait.",
        &["docker login", "docker save <image> | cofferdam image load"],
    )
    .in_cluster(&["kubectl create secret docker-registry NAME --namespace=<namespace> --docker-server=SERVER --docker-username=USER --docker-password=PASSWORD"])
    .heard(&[
        says("<host> answers no more requests for now"),
        says("toomanyrequests"),
        says("429 Too Many Requests").unless(PROBE),
    ]),
    row(
        "registry-untrusted",
        "the registry's certificate is not trusted",
        StopsPods,
        "The registry was reached, and its certificate is by an authority that this machine does not know, is for another name, or is not valid at this time. Name the authority as ca in the registry's hosts.toml or install it on the machine, and look at the clock; skip_verify gives up the protection.",
        &["date", "openssl s_client -connect <host>:443 -showcerts", "ls /etc/containerd/certs.d"],
    )
    .in_cluster(&["kubectl get pod <pod> --namespace=<namespace> -o jsonpath='{.spec.nodeName}'", "openssl s_client -connect <host>:443 -showcerts", "ls /etc/containerd/certs.d"])
    .heard(&[
        says("no trusted connection to <host>: its certificate"),
        says("no trusted connection to <host>: it ended the handshake"),
        says("Get \"https://<host>/<_>x509: ").unless(PROBE),
        says("Head \"https://<host>/<_>x509: ").unless(PROBE),
        says("x509: certificate signed by unknown authority").unless(PROBE),
        says("x509: certificate has expired").unless(PROBE),
        says("x509: certificate is valid for").unless(PROBE),
    ]),
    row(
        "registry-speaks-plain-http",
        "the registry speaks HTTP and is asked over HTTPS",
        StopsPods,
        "<host> does not speak TLS, and images come over TLS unless its hosts.toml names it by http://. Name it so where that is meant, for a registry on a network that you trust.",
        &["mkdir -p /etc/containerd/certs.d/<host>", "printf 'server = \"http://HOST\"\\n' > /etc/containerd/certs.d/<host>/hosts.toml"],
    )
    .heard(&[
        says("no trusted connection to <host>: it does not speak TLS"),
        says("\"https://<host>/<_>server gave HTTP response to HTTPS client").unless(PROBE),
        says("server gave HTTP response to HTTPS client").unless(PROBE),
    ]),
    row(
        "registry-name-unresolved",
        "the registry's name has no address",
        StopsPods,
        "This machine cannot find an address of <host>: the name is wrong, or the machine's resolver does not answer. It is the machine's resolver that counts, not that of pods.",
        &["getent hosts <host>", "cat /etc/resolv.conf"],
    )
    .heard(&[
        says("<host> has no address ("),
        says("Failed to pull image <_>lookup <host> on <_>: no such host").unless(SANDBOX),
        says("failed to do request: <_>lookup <host> on <_>: no such host").unless(SANDBOX),
        says("failed to do request: <_>lookup <host>: no such host").unless(SANDBOX),
        says("pinging container registry <host>: <_>no such host").unless(SANDBOX),
        says("failed to do request: <_>lookup <host> on <_>: server misbehaving").unless(SANDBOX),
    ]),
    row(
        "registry-proxy-fails",
        "the proxy to the registry fails",
        StopsPods,
        "Registries are reached through the proxy <proxy> here, as HTTPS_PROXY and NO_PROXY say, and that gives no connection. Correct the variables in the environment of Cofferdam or of the container runtime, or leave the registry's host out with NO_PROXY.",
        &["env | grep -i proxy"],
    )
    .in_cluster(&["systemctl show containerd --property=Environment"])
    .heard(&[says("through the proxy of <proxy>:"), says("proxyconnect tcp: <_>lookup <proxy>"), says("proxyconnect tcp: dial tcp <proxy>: "), says("proxyconnect tcp")]),
    row(
        "registry-unreachable",
        "the registry cannot be reached",
        StopsPods,
        "The node could not talk to the image's registry: the address, a firewall or the network is in the way; the message says which. Try the same address from the node.",
        &["curl -sSI https://REGISTRY/v2/"],
    )
    .in_cluster(&["kubectl get pod <pod> --namespace=<namespace> -o jsonpath='{.spec.nodeName}'", "curl -sSI https://REGISTRY/v2/"])
    .heard(&[
        says("no connection to <host>: ").unless(&["through the proxy of"]),
        says("failed to do request:").unless(KNOWN),
        says("Failed to pull image \"<image>\": <_>dial tcp").unless(KNOWN),
        says("Failed to pull image \"<image>\": <_>pinging container registry").unless(KNOWN),
        says("pinging container registry <host>:").unless(KNOWN),
        says("Failed to pull image \"<image>\": <_>context deadline exceeded").unless(KNOWN),
    ]),
    row(
        "registry-stalls",
        "the registry stalls or cuts off",
        StopsPods,
        "A connection to the registry came to be, and then too little came over it, or it was cut before the end. What came of a layer is kept and continued by the next try; look at the network (its MTU for one), at proxies, and at the registry's own load.",
        &["cofferdam image pull <image>", "ip link | grep mtu"],
    )
    .in_cluster(&["crictl pull <image>", "ip link | grep mtu"])
    .heard(&[
        says("<host> stalled while it sent"),
        says("<host> cut the connection while it sent"),
        says("bytes and could not be resumed in"),
        says("net/http: TLS handshake timeout").unless(PROBE),
        says("net/http: timeout awaiting response headers").unless(PROBE),
        says("failed to do request: <_>Client.Timeout").unless(PROBE),
        says("Failed to pull image \"<image>\": <_>Client.Timeout"),
        says("failed to copy: <_>connection reset by peer"),
        says("failed to copy: <_>unexpected EOF"),
    ]),
    row(
        "registry-fails",
        "the registry itself fails",
        StopsPods,
        "The registry was reached and answered with an error of its own (5xx), or with what is no answer of a registry. Try again later, look at its log, or use a mirror.",
        &["curl -sSI https://REGISTRY/v2/"],
    )
    .heard(&[
        says("the fault is on its side, try again later"),
        says("look at its log, and whether it is a registry"),
        says("<host> answered for <_> with what the protocol does not allow"),
        says("RegistryUnavailable"),
        says("unexpected status from <_> request to <_>: 50"),
        says("unexpected status code <_>: 50").unless(PROBE),
        says("received unexpected HTTP status: 50"),
    ]),
    row(
        "registry-hosts-file",
        "the configuration of a registry cannot be used",
        StopsPods,
        "A hosts.toml, or a certificate that it names, has an error or leaves no host to ask, so nothing is asked for in a weaker way instead. Correct the file that the message names.",
        &["ls -R /etc/containerd/certs.d"],
    )
    .heard(&[
        says("/hosts.toml:<line>: "),
        says("/hosts.toml: "),
        says("names none with that capability"),
        says("unable to load hosts from"),
        says("failed to parse hosts.toml"),
    ]),
    row(
        "registry-sends-elsewhere",
        "the registry sends us where we do not go",
        StopsPods,
        "<host> answered with a redirect or a token service that leads to this machine's own addresses, or that would get credentials in the clear. Nothing was sent there; look at the registry's configuration, or reach it by its true name.",
        &["curl -sSI https://REGISTRY/v2/"],
    )
    .heard(&[
        says("<host> sends on to <_>: "),
        says("<host> wants a token from <_>: "),
    ]),
    row(
        "mirrors-fail",
        "neither the mirrors nor the registry gave the image",
        StopsPods,
        "Every host of the registry's hosts.toml was asked for <image> in its order, and none gave it; the message has each one's answer. Look at the first that should have it.",
        &["ls -R /etc/containerd/certs.d", "cofferdam image pull <image>"],
    )
    .heard(&[says("no host gave <image>: ")])
    .generic(),
    row(
        "image-format-unsupported",
        "the image's format is not one that can be run",
        StopsPods,
        "What the registry has under this name is Docker's old schema 1, an encrypted image, or an artifact that is no image, such as a chart or a signature. Push the image again with a current tool, or correct the name.",
        &["skopeo inspect --raw docker://IMAGE"],
    )
    .heard(&[
        says("only in Docker's schema 1"),
        says("its manifest has docker's old schema 1"),
        says("only OCI and Docker schema 2 manifests and indexes can be run"),
        says("it is no image but an artifact"),
        says("is encrypted, which is not supported"),
        says("manifest.v1+prettyjws\" is no longer supported"),
        says("unsupported media type application/vnd.docker.distribution.manifest.v1"),
        says("schema 1 image manifests are no longer supported"),
    ]),
    row(
        "image-signature-rejected",
        "the image's signature is not accepted",
        StopsPods,
        "The node's policy wants images to be signed, and this one is not, or by somebody else. Sign it, or change the policy (policy.json of the node).",
        &["cat /etc/containers/policy.json"],
    )
    .heard(&[says("SignatureValidationFailed"), says("Source image rejected:")]),
    row(
        "image-too-large",
        "the image passes a bound",
        StopsPods,
        "The image has more bytes, layers, files or metadata than Cofferdam takes from anybody, which keeps a hostile one from filling the machine. The message names the bound; make the image smaller, or with fewer layers.",
        &["docker history IMAGE"],
    )
    .heard(&[
        says("the image has more than <count> bytes"),
        says("the image has more than <count> entries"),
        says("layers, and no more than <count> are taken"),
        says("sent more than <count> bytes of"),
        says("grows to more than"),
    ]),
];
