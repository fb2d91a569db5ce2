"""Whom a certificate names: as Java writes it, and as rules make a user of it."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from kafkapy.config.setting import ConfigError
from kafkapy.security.certificates import distinguished_name
from kafkapy.security.principal_mapping import principal_mapping

KEY = ec.generate_private_key(ec.SECP256R1())
Attribute = x509.NameAttribute


def certificate(*rdns: list[Attribute[str]]) -> bytes:
    name = x509.Name([x509.RelativeDistinguishedName(rdn) for rdn in rdns])
    begin, end = datetime.datetime(2020, 1, 1), datetime.datetime(2050, 1, 1)
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), 1, begin, end)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    ("rdns", "java"),
    [
        (
            [
                [Attribute(NameOID.COUNTRY_NAME, "DE")],
                [Attribute(NameOID.ORGANIZATION_NAME, "Ünï, Inc.")],
                [Attribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "a")],
                [Attribute(NameOID.COMMON_NAME, "alice")],
            ],
            r"CN=alice,OU=a,O=Ünï\, Inc.,C=DE",
        ),
        (
            [
                [Attribute(NameOID.DOMAIN_COMPONENT, "org")],
                [Attribute(NameOID.USER_ID, "u1"), Attribute(NameOID.COMMON_NAME, "multi")],
                [Attribute(NameOID.EMAIL_ADDRESS, "a@b.c")],
                [Attribute(NameOID.SERIAL_NUMBER, "77")],
            ],
            "2.5.4.5=#13023737,1.2.840.113549.1.9.1=#16056140622e63,CN=multi+UID=u1,DC=org",
        ),
        (
            [
                [Attribute(NameOID.COMMON_NAME, '  a,+"\\<>;=#b  ')],
                [Attribute(NameOID.LOCALITY_NAME, " ")],
                [Attribute(NameOID.STATE_OR_PROVINCE_NAME, "#x")],
                [Attribute(NameOID.STREET_ADDRESS, "s t")],
            ],
            r"STREET=s t,ST=\#x,L=\ ,CN=\ \ a\,\+\"\\\<\>\;\=\#b\ \ ",
        ),
        (
            [
                [Attribute(NameOID.COMMON_NAME, "bmp", _ASN1Type.BMPString)],
                [Attribute(NameOID.ORGANIZATION_NAME, "t61", _ASN1Type.T61String)],
                [Attribute(NameOID.SURNAME, "sn")],
            ],
            r"2.5.4.4=#0c02736e,O=t61,CN=\00b\00m\00p",
        ),
    ],
)
def test_a_name_is_written_as_java_writes_it(rdns: list[list[Attribute[str]]], java: str) -> None:
    """What OpenJDK 17's X500Principal.getName() made of these."""
    assert distinguished_name(certificate(*rdns)) == java


NAME = "CN=Alice,OU=ServiceUsers,O=Unknown,C=DE"


@pytest.mark.parametrize(
    ("rules", "name"),
    [
        ("DEFAULT", NAME),
        (" RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/ , DEFAULT", "Alice"),
        ("RULE:^CN=(.*?),OU=(.*?),.*$/$1@$2/L", "alice@serviceusers"),
        ("RULE:^CN=(.*?),OU=(.*?),.*$/$1@$2/U,DEFAULT", "ALICE@SERVICEUSERS"),
        ("RULE:^OU=(.*?)$/$1/,RULE:^CN=(.).*$/$1$2/", "A$2"),
        ("RULE:^CN=(.).*$/$12\\/x/", "A2/x"),
        ("RULE:^cn=.*$/x/", None),
        ("", None),
    ],
)
def test_the_first_rule_that_fits_names_the_user(rules: str, name: str | None) -> None:
    assert principal_mapping(rules)(NAME) == name


@pytest.mark.parametrize("rules", ["default", "RULE:^CN=(.*)$/$1", "RULE:^CN=(.*$/$1/", "RULE:/", "DEFAULT/L"])
def test_a_malformed_rule_is_refused(rules: str) -> None:
    with pytest.raises(ConfigError, match=r"Invalid rule in ssl\.principal\.mapping\.rules"):
        principal_mapping(rules)
