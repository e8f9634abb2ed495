"""The providers that are known: a route each, as rows of data.

Sources are the providers' own SDKs: which variable they read a key and a base URL from, and where
they put the key.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType

from nono_proxy.config import BaseUrl, Header, Query, Route, SigV4
from nono_proxy.errors import UnknownRouteError

_BEARER = (Header("Authorization", "bearer"),)


def _bearer(name: str, host: str, key: str, url: str = "", suffix: str = "") -> Route:
    """Return a row of the common kind: a Bearer token."""
    base_urls = (BaseUrl(url, suffix),) if url else ()
    return Route(name, (host,), name, _BEARER, (key,), base_urls, phantom_prefix="sk-")


_ROWS = (
    Route(
        "openai",
        ("api.openai.com",),
        "openai",
        _BEARER,
        ("OPENAI_API_KEY",),
        (BaseUrl("OPENAI_BASE_URL", "/v1"),),
        phantom_prefix="sk-",
    ),
    Route(
        "anthropic",
        ("api.anthropic.com",),
        "anthropic",
        (Header("x-api-key"), *_BEARER),
        ("ANTHROPIC_API_KEY",),
        (BaseUrl("ANTHROPIC_BASE_URL"),),
        phantom_prefix="sk-ant-api03-",
        phantom_length=108,
    ),
    Route(
        "gemini",
        ("generativelanguage.googleapis.com",),
        "gemini",
        (Header("x-goog-api-key"), Query("key")),
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        (BaseUrl("GOOGLE_GEMINI_BASE_URL"),),
        phantom_prefix="AIza",
    ),
    Route(
        "aws",
        ("*.amazonaws.com",),
        "aws",
        (SigV4(),),
        ("AWS_ACCESS_KEY_ID",),
        phantom_prefix="AKIA",
    ),
    Route(
        "bedrock",
        ("bedrock-runtime.us-east-1.amazonaws.com",),
        "bedrock",
        _BEARER,
        ("AWS_BEARER_TOKEN_BEDROCK",),
        (BaseUrl("AWS_ENDPOINT_URL_BEDROCK_RUNTIME"),),
    ),
    _bearer("mistral", "api.mistral.ai", "MISTRAL_API_KEY"),
    _bearer("groq", "api.groq.com", "GROQ_API_KEY", "GROQ_BASE_URL"),
    _bearer("together", "api.together.xyz", "TOGETHER_API_KEY", "TOGETHER_BASE_URL", "/v1"),
    _bearer("cohere", "api.cohere.com", "CO_API_KEY", "CO_API_URL"),
    _bearer("openrouter", "openrouter.ai", "OPENROUTER_API_KEY"),
    _bearer("deepseek", "api.deepseek.com", "DEEPSEEK_API_KEY"),
    _bearer("xai", "api.x.ai", "XAI_API_KEY"),
    Route("slack", ("slack.com",), "slack", _BEARER, ("SLACK_BOT_TOKEN",), phantom_prefix="xoxb-"),
    Route(
        "stripe",
        ("api.stripe.com",),
        "stripe",
        (*_BEARER, Header("Authorization", "basic-user")),
        ("STRIPE_API_KEY",),
        phantom_prefix="sk_test_",
    ),
    Route(
        "linear",
        ("api.linear.app",),
        "linear",
        (*_BEARER, Header("Authorization")),
        ("LINEAR_API_KEY",),
        phantom_prefix="lin_api_",
    ),
    Route(
        "huggingface",
        ("huggingface.co", "router.huggingface.co"),
        "huggingface",
        _BEARER,
        ("HF_TOKEN",),
        (BaseUrl("HF_ENDPOINT"),),
        phantom_prefix="hf_",
    ),
    Route(
        "github",
        ("api.github.com", "uploads.github.com", "github.com"),
        "github",
        (
            *_BEARER,
            Header("Authorization", "token"),
            Header("Authorization", "basic-password", "x-access-token"),
        ),
        ("GH_TOKEN", "GITHUB_TOKEN"),
        (BaseUrl("GITHUB_API_URL"),),
        phantom_prefix="ghp_",
        git_user="x-access-token",
    ),
    Route(
        "gitlab",
        ("gitlab.com",),
        "gitlab",
        (Header("PRIVATE-TOKEN"), *_BEARER, Header("Authorization", "basic-password", "oauth2")),
        ("GITLAB_TOKEN",),
        (BaseUrl("CI_API_V4_URL", "/api/v4"),),
        phantom_prefix="glpat-",
        git_user="oauth2",
    ),
    Route(
        "npm",
        ("registry.npmjs.org",),
        "npm",
        _BEARER,
        ("NPM_TOKEN", "NODE_AUTH_TOKEN"),
        (BaseUrl("npm_config_registry", "/"),),
        phantom_prefix="npm_",
    ),
    Route(
        "pypi",
        ("upload.pypi.org",),
        "pypi",
        (Header("Authorization", "basic-password", "__token__"),),
        ("TWINE_PASSWORD", "UV_PUBLISH_TOKEN"),
        (BaseUrl("TWINE_REPOSITORY_URL", "/legacy/"),),
        phantom_prefix="pypi-",
    ),
)

ROUTES: Mapping[str, Route] = MappingProxyType({row.name: row for row in _ROWS})


def route(name: str) -> Route:
    """Return the row of that name.

    Raises:
        UnknownRouteError: There is none; the message names near ones.
    """
    found = ROUTES.get(name)
    if found is None:
        near = get_close_matches(name, ROUTES)
        hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(ROUTES))}"
        raise UnknownRouteError(f"no route is called {name!r}{hint}")
    return found
