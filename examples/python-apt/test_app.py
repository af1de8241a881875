import unittest

import app


class Describe(unittest.TestCase):
    def test_machine_is_told(self):
        description = app.describe()
        self.assertTrue(description["machine"])
        print("tested on", description["machine"])


unittest.main()
