"""How a process of a test begins; apart from `search_worker`, which is slow to load and which the tests don't need."""


def run(job: dict) -> None:
    from search_worker import Job
    from search_worker import run as work

    work(Job(**job))
