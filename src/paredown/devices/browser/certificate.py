"""A self-signed certificate for one run: browsers give threads only to pages that come over HTTPS or from localhost."""

import datetime
import ipaddress
from pathlib import Path

# Phones' clocks go wrong; and no certificate of a run outlives a day.
_BEFORE, _AFTER = datetime.timedelta(days=1), datetime.timedelta(days=1)


def write(folder: Path, host: str) -> tuple[Path, Path]:
    """Writes a certificate for an address and for localhost, and its key.

    Args:
        folder: Private to this user.
        host: An IP address.
    Returns:
        Files of the certificate and of the key, PEM.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "paredown bench")])
    names = [x509.IPAddress(ipaddress.ip_address(host)), x509.DNSName("localhost")]
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(now + _AFTER)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, secret = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.touch(mode=0o600)
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, secret
