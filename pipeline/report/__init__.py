"""What people look at: contact sheets of the tables that stages wrote."""
