"""Finds secrets with the detectors of detect-secrets, and filters them: most strings that look like secrets are not.

The detectors only get lines that could contain a secret. Filters that would ask a service whether a secret is live are
not used, so no data leaves this machine. The value itself never leaves this module.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from detect_secrets.filters import heuristic
from detect_secrets.plugins import (
    artifactory,
    aws,
    azure_storage_key,
    basic_auth,
    discord,
    github_token,
    gitlab_token,
    jwt,
    keyword,
    mailchimp,
    npm,
    openai,
    private_key,
    pypi_token,
    sendgrid,
    slack,
    square_oauth,
    stripe,
    telegram_token,
    twilio,
)

from examples.repo_audit.results import rules
from examples.repo_audit.results.findings import Rule

TOKEN = rules.get("secrets:token")
KEY = rules.get("secrets:private-key")
PASSWORD = rules.get("secrets:password")
URL = rules.get("secrets:url")

_TOKENS = (
    artifactory.ArtifactoryDetector(),
    aws.AWSKeyDetector(),
    azure_storage_key.AzureStorageKeyDetector(),
    discord.DiscordBotTokenDetector(),
    github_token.GitHubTokenDetector(),
    gitlab_token.GitLabTokenDetector(),
    mailchimp.MailchimpDetector(),
    npm.NpmDetector(),
    openai.OpenAIDetector(),
    pypi_token.PypiTokenDetector(),
    sendgrid.SendGridDetector(),
    slack.SlackDetector(),
    square_oauth.SquareOAuthDetector(),
    stripe.StripeDetector(),
    telegram_token.TelegramBotTokenDetector(),
    twilio.TwilioKeyDetector(),
    jwt.JwtTokenDetector(),
)
_KEYS = private_key.PrivateKeyDetector()
_BASIC = basic_auth.BasicAuthDetector()
_KEYWORDS = keyword.KeywordDetector()

_POSSIBLE = re.compile(
    r"(?i:pass(wd|word)?|secret|token|api.?key|private.?key|credential|db.?pass|auth)|AKIA|ASIA|A3T|ABIA|ACCA|gh[pousr]_|glpat|xox[a-z]-"
    r"|://[^/\s:@]*:[^/\s@]+@|[sr]k_live|SG\.|sq0csp|T3BlbkFJ|pypi-|npm_|eyJ[A-Za-z0-9]|-us\d\d?\b|\d{8,10}:[\w-]{35}|AKC|AccountKey"
    r"|hooks\.slack|[MNO][\w-]{23}\.[\w-]{6}\.|\b(AC|SK)[a-z0-9]{32}"
)
_PLACEHOLDER = re.compile(
    r"(?i)example|sample|dummy|fake|placeholder|change.?(me|it|this)|your|xxx|todo|redacted|insert|replace|secret$|^secret|^(my)?pass(word|wd)?"
    r"|^test|test$|^foo|^bar|^(abc|123|qwerty)|123456|password|^none$|^null$|^true$|^false$|^undefined$|^(user|admin|root|postgres|guest|key|token)"
    r"|^\W*$|\.\.\.|^[<\[({%$].*|^[a-z]+([_ -][a-z]+)*$|^[A-Z]+(_[A-Z]+)*$"
    r"|^\w+\(|^(https?|file|/|\./)|\*{3}|\s|^os\.|^env\b|[a-z]\.[a-z]+[.(\[]"
)
_LOCAL = re.compile(
    r"@(localhost|127\.0\.0\.1|\[::1\]|0\.0\.0\.0|db|postgres|redis|mysql|rabbitmq|mongo|host|hostname|server|proxy|example|[\w.-]*\.?example\.\w+|[\w-]+)(?=[:/\"'`\s)]|$)"
)
_CODE = re.compile(r"\.(py|[cm]?[jt]sx?|go|rs|java|kt|rb|php|cs|swift|scala|c|cc|cpp|h|lua|pl|vue|html?)$")


class Hit(NamedTuple):
    rule: Rule
    line: int
    kind: str


def hits(path: str, text: str) -> Iterator[Hit]:
    """Each line that probably contains a secret, with its kind."""
    if not _POSSIBLE.search(text) and "-----BEGIN" not in text:
        return
    for number, line in enumerate(text.splitlines(), 1):
        if "pragma: allowlist" in line or len(line) > 2_000:
            continue
        if "-----BEGIN" in line and any(_KEYS.analyze_string(line)) and _has_body(text, number):
            yield Hit(KEY, number, "Private key")
        elif _POSSIBLE.search(line) and (secret := _token(line) or _url(line) or _password(path, line)):
            rule, kind = secret
            yield Hit(rule, number, kind)


def _token(line: str) -> tuple[Rule, str] | None:
    for detector in _TOKENS:
        for value in detector.analyze_string(line):
            text = value if isinstance(value, str) else str(value)
            if re.search(r"(?i)example|x{5}|test|fake|dummy|(.)\1{6}|1234567|abcdefg", text) or _is_no_secret(text):
                continue
            if isinstance(detector, jwt.JwtTokenDetector):
                return PASSWORD, "JSON Web Token"
            return TOKEN, detector.secret_type
    return None


def _url(line: str) -> tuple[Rule, str] | None:
    for value in _BASIC.analyze_string(line):
        if not _PLACEHOLDER.search(value) and not _is_no_secret(value) and not _LOCAL.search(line) and len(value) > 5:
            return URL, "Password in a URL"
    return None


def _password(path: str, line: str) -> tuple[Rule, str] | None:
    if heuristic.is_indirect_reference(line):
        return None
    for secret in _KEYWORDS.analyze_line(filename=path, line=line, line_number=1):
        value = (secret.secret_value or "").strip("\"'`;, ")
        if len(value) < 8 or _PLACEHOLDER.search(value) or _is_no_secret(value) or not _has_letters_and_digits(value):
            continue
        if _CODE.search(path) and not re.search(r"[\"'`]" + re.escape(value), line):
            continue  # in code, an unquoted word is a name and not a value
        return PASSWORD, "Password or key"
    return None


def _is_no_secret(value: str) -> bool:
    return bool(
        heuristic.is_sequential_string(value)
        or heuristic.is_potential_uuid(value)
        or heuristic.is_templated_secret(value)
        or heuristic.is_prefixed_with_dollar_sign(value)
        or heuristic.is_not_alphanumeric_string(value)
    )


def _has_letters_and_digits(value: str) -> bool:
    """Whether it mixes letters and digits, as secrets do; words alone are labels."""
    return bool(re.search(r"\d", value) and re.search(r"[A-Za-z]", value) and len(set(value)) > 5)


def _has_body(text: str, number: int) -> bool:
    """Whether lines of base64 follow the header; a header alone is a pattern or an example."""
    below = text.splitlines()[number - 1 : number + 12]
    long = [line for line in below if re.search(r"[A-Za-z0-9+/=]{48,}", line)]
    return len(long) >= 2 or len(re.findall(r"[A-Za-z0-9+/]{48,}", below[0])) >= 1
