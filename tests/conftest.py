"""Fixtures that tests of the service share with tests that span both packages."""

from tests.service.conftest import models_folder, shipped

__all__ = ["models_folder", "shipped"]
