//! Certificates and kubeconfigs of the control plane, made anew for each run.
//!
//! Out, in one folder: the authority (`ca.crt`), the server's pair (`server.crt`, `server.key`),
//! the service account key, a kubeconfig a component, and for the tests `expired.kubeconfig`
//! (a client certificate of 2020) and `wrong-ca.kubeconfig`.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use crate::Failure;

/// The folder and the authority that signs in it.
pub(crate) struct Pki {
    folder: PathBuf,
    server: String,
    authority: Issuer<'static, KeyPair>,
}

impl Pki {
    /// Makes the authority, the server's pair and the service account key. `server` is the API
    /// server's address.
    pub(crate) fn new(folder: &Path, server: &str) -> Result<Self, Failure> {
        let (certificate, authority) = authority()?;
        let pki = Self {
            folder: folder.to_owned(),
            server: server.to_owned(),
            authority,
        };
        pki.write("ca.crt", &certificate)?;
        pki.write("wrong-ca.crt", &self::authority()?.0)?;
        let names = ["127.0.0.1", "localhost", "kubernetes.default.svc"];
        let mut params = CertificateParams::new(names.map(str::to_owned).to_vec()).map_err(tell)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        pki.pair("server", params, 2099)?;
        let key = KeyPair::generate().map_err(tell)?;
        pki.write("service-accounts.key", &key.serialize_pem())?;
        pki.write("service-accounts.pub", &key.public_key_pem())?;
        Ok(pki)
    }

    /// The path of a file in the folder.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// Writes `<name>.kubeconfig` with a client certificate for `user` in `group`.
    pub(crate) fn client(&self, name: &str, user: &str, group: &str) -> Result<PathBuf, Failure> {
        self.client_until(name, user, group, 2099)?;
        self.kubeconfig(name, name, "ca.crt")
    }

    /// Writes the kubeconfigs of the two clients that cannot connect: one whose certificate has
    /// expired, one that trusts another authority than the server's.
    pub(crate) fn broken_clients(&self) -> Result<(), Failure> {
        self.client_until("expired", "admin", "system:masters", 2021)?;
        self.kubeconfig("expired", "expired", "ca.crt")?;
        self.kubeconfig("wrong-ca", "admin", "wrong-ca.crt")?;
        Ok(())
    }

    fn client_until(&self, name: &str, user: &str, group: &str, year: i32) -> Result<(), Failure> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        params
            .distinguished_name
            .push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.pair(name, params, year)
    }

    fn pair(&self, name: &str, mut params: CertificateParams, year: i32) -> Result<(), Failure> {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(tell)?;
        let certificate = params.signed_by(&key, &self.authority).map_err(tell)?;
        self.write(&format!("{name}.crt"), &certificate.pem())?;
        self.write(&format!("{name}.key"), &key.serialize_pem())
    }

    fn kubeconfig(&self, name: &str, pair: &str, authority: &str) -> Result<PathBuf, Failure> {
        let folder = self.folder.display();
        let server = &self.server;
        let file = format!("{name}.kubeconfig");
        self.write(
            &file,
            &format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: e2e\n\
                 clusters:\n- name: e2e\n  cluster:\n    server: {server}\n    \
                 certificate-authority: {folder}/{authority}\n\
                 users:\n- name: {name}\n  user:\n    \
                 client-certificate: {folder}/{pair}.crt\n    client-key: {folder}/{pair}.key\n\
                 contexts:\n- name: e2e\n  context:\n    cluster: e2e\n    user: {name}\n"
            ),
        )?;
        Ok(self.path(&file))
    }

    fn write(&self, file: &str, text: &str) -> Result<(), Failure> {
        let path = self.path(file);
        std::fs::write(&path, text)
            .map_err(|error| format!("cannot write `{}`: {error}", path.display()))
    }
}

fn authority() -> Result<(String, Issuer<'static, KeyPair>), Failure> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "castoff e2e");
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
    ];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2099, 1, 1);
    let key = KeyPair::generate().map_err(tell)?;
    let certificate = params.self_signed(&key).map_err(tell)?.pem();
    Ok((certificate, Issuer::new(params, key)))
}

fn tell(error: rcgen::Error) -> Failure {
    format!("cannot make a certificate: {error}")
}
