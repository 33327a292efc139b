"""A browser's short name, for people, from how it calls itself."""

import re

# In this order: most call themselves Chrome or Safari as well.
_BROWSERS = (
    ("Edge", r"Edg(?:A|iOS)?/(\d+)"),
    ("Opera", r"OPR/(\d+)"),
    ("Samsung Internet", r"SamsungBrowser/(\d+)"),
    ("Firefox", r"(?:Firefox|FxiOS)/(\d+)"),
    ("Chrome", r"(?:Headless)?(?:Chrome|CriOS)/(\d+)"),
    ("Safari", r"Version/(\d+).*Safari/"),
)
_SYSTEMS = (
    ("Android", r"Android"),
    ("iPhone", r"iPhone"),
    ("iPad", r"iPad"),
    ("Windows", r"Windows"),
    ("macOS", r"Macintosh"),
    ("Linux", r"Linux"),
)


def name(user_agent: str) -> str:
    """Such as "Chrome 150 on Android"; the words themselves where they are not known."""
    found = next(((known, m[1]) for known, form in _BROWSERS if (m := re.search(form, user_agent))), None)
    system = next((known for known, form in _SYSTEMS if re.search(form, user_agent)), None)
    if found is None:
        return user_agent[:80] or "an unknown browser"
    return " ".join(found) + (f" on {system}" if system else "")
