"""Many sorties on one repository: `workspaces` measures copies, commits and landings, `reservations` admission."""
