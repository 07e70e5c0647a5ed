"""What an application's own tests look like."""

import psycopg

from tenants import ONE, OTHER, TenantTest


class Orders(TenantTest):
    def setUp(self):
        super().setUp()
        for tenant in (ONE, OTHER):
            self.acting_for(tenant).execute("INSERT INTO orders (item) VALUES (%s)", [f"of {tenant[0]}"])
        self.acting_for(None)

    def items(self):
        return [item for (item,) in self.connection.execute("SELECT item FROM orders ORDER BY item")]

    def test_each_tenant_sees_its_own(self):
        for tenant in (ONE, OTHER):
            self.acting_for(tenant)
            self.assertEqual(self.items(), [f"of {tenant[0]}"])

    def test_nothing_of_another_test_is_left(self):
        self.acting_for(ONE).execute("DELETE FROM orders")
        self.assertEqual(self.items(), [])
        self.acting_for(OTHER)
        self.assertEqual(self.items(), ["of 2"])

    def test_a_forgotten_tenant_is_an_error(self):
        with self.assertRaisesRegex(psycopg.errors.InsufficientPrivilege, "no tenant context"):
            self.items()

    def test_nobody_writes_for_another(self):
        self.acting_for(ONE)
        with self.assertRaises(psycopg.errors.InsufficientPrivilege):
            self.connection.execute("INSERT INTO orders (tenant_id, item) VALUES (%s, 'smuggled')", [OTHER])
