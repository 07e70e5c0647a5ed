"""A base for tests of an application that uses Bulkhead: unittest (pytest runs it as well) and psycopg 3.

Each test is one transaction that is rolled back. It connects as the tests' own role, whose bulkhead.context_mode is open: a fixture goes from tenant
to tenant in one transaction.
"""

import os
import unittest

import psycopg

ONE = "11111111-1111-1111-1111-111111111111"
OTHER = "22222222-2222-2222-2222-222222222222"


class TenantTest(unittest.TestCase):
    def setUp(self):
        self.connection = psycopg.connect(os.environ.get("TEST_DATABASE_URL", ""))
        # Runs whatever becomes of the test, and of what setUp does after this.
        self.addCleanup(self.connection.close)
        self.addCleanup(self.connection.rollback)

    def acting_for(self, tenant):
        """From now on the transaction acts for this tenant; None: for nobody."""
        self.connection.execute("SELECT bulkhead.set_tenant(%s)", [tenant or ""])
        return self.connection
