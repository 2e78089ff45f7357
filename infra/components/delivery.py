"""What GitHub's workflows may do: roles that trust this repository's tokens, one per job and stack.

A token says for which environment (or for a pull request) GitHub made it; each role trusts exactly
one such subject. Environments ask their reviewers before a job gets a token at all.

The role `deploy` makes what this program declares: AWS' PowerUserAccess, which knows no IAM,
and IAM on names of this stack, where every new role must have the stack's boundary. It can change
neither the boundary nor the roles of this file, which lie below a path of their own: a change of
either is applied by a person. It reads no secret and no message. The role `preview` sees what there
is, and reads no data either.
"""

from __future__ import annotations

import pulumi
import pulumi_aws as aws

from components.data_lake import DataLake
from components.security import Security
from context import Context, Part
from grants import Grant, make_role, policy_document

ISSUER = "token.actions.githubusercontent.com"
AUDIENCE = "sts.amazonaws.com"
MANAGED = "arn:aws:iam::aws:policy"
PATH = "/delivery/"
"""Not matched by `role/headrace-<stack>-*`, on which the role `deploy` may work."""
DEPLOY, PREVIEW, IMAGES, PROMOTE, SLIM_CI = "deploy", "preview", "images", "promote", "slim-ci"
SECRET_VALUES = ["secretsmanager:BatchGetSecretValue", "secretsmanager:GetSecretValue"]
PULL = (
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:DescribeImages",
    "ecr:GetDownloadUrlForLayer",
)
PUSH = (
    "ecr:CompleteLayerUpload",
    "ecr:InitiateLayerUpload",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
)
ROLE_READ = (
    "iam:GetPolicy",
    "iam:GetPolicyVersion",
    "iam:GetRole",
    "iam:GetRolePolicy",
    "iam:ListAttachedRolePolicies",
    "iam:ListInstanceProfilesForRole",
    "iam:ListPolicyVersions",
    "iam:ListRolePolicies",
    "iam:ListRoleTags",
)
ROLE_WRITE = (
    "iam:AttachRolePolicy",
    "iam:CreateRole",
    "iam:DeleteRolePolicy",
    "iam:DetachRolePolicy",
    "iam:PutRolePermissionsBoundary",
    "iam:PutRolePolicy",
)
"""Each of these can be bound to the boundary that the role has or gets."""
ROLE_CHANGE = (
    "iam:DeleteRole",
    "iam:PassRole",
    "iam:TagRole",
    "iam:UntagRole",
    "iam:UpdateAssumeRolePolicy",
    "iam:UpdateRole",
    "iam:UpdateRoleDescription",
)


class Delivery(Part):
    """GitHub as an identity provider, and the roles that its jobs assume."""

    deploy_role_arn: pulumi.Output[str]
    role_arns: dict[str, pulumi.Output[str]]

    def __init__(self, context: Context, security: Security, lake: DataLake) -> None:
        super().__init__(context, "delivery")
        self._security = security
        self._provider_arn = aws.iam.OpenIdConnectProvider(
            "github",
            url=f"https://{ISSUER}",
            client_id_lists=[AUDIENCE],
            opts=self.below(),
        ).arn
        stack = context.settings.stack
        image = context.arn("ecr", f"repository/{context.name(context.settings.image_repository)}")
        login = Grant("Login", ("ecr:GetAuthorizationToken",), ("*",))
        state = self._state()
        deploy = self._role(DEPLOY, f"environment:{stack}", (*self._iam(), *state))
        preview = self._role(PREVIEW, f"environment:{stack}-preview", state)
        self._attach(deploy, "PowerUserAccess")
        self._attach(preview, "job-function/ViewOnlyAccess")
        self._never_reads(deploy, lake)
        roles = {
            DEPLOY: deploy,
            PREVIEW: preview,
            IMAGES: self._role(
                IMAGES, "environment:build", (login, Grant("Push", (*PULL, *PUSH), (image,)))
            ),
            PROMOTE: self._role(
                PROMOTE,
                f"environment:{stack}",
                (login, Grant("Tag", (*PULL, "ecr:PutImage"), (image,))),
            ),
            SLIM_CI: self._role(SLIM_CI, "pull_request", lake.grants.slim_ci()),
        }
        self.role_arns = {name: role.arn for name, role in roles.items()}
        self.deploy_role_arn = deploy.arn
        self.register_outputs({"role_arns": self.role_arns})

    def _role(self, name: str, subject: str, grants: tuple[Grant, ...]) -> aws.iam.Role:
        # The boundary is of services, whose code is ours. A pull request's runs before a review.
        is_bounded = name == SLIM_CI
        return make_role(
            self,
            name,
            grants,
            boundary_arn=self._security.boundary_arn if is_bounded else None,
            assumed_by=self._trust(subject),
            path=PATH,
        )

    def _trust(self, subject: str) -> pulumi.Output[str]:
        repository = self.context.settings.repository
        statement = {
            "Effect": "Allow",
            "Principal": {"Federated": self._provider_arn},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {
                "StringEquals": {
                    f"{ISSUER}:aud": AUDIENCE,
                    f"{ISSUER}:sub": f"repo:{repository}:{subject}",
                }
            },
        }
        return policy_document([statement])

    def _attach(self, role: aws.iam.Role, policy: str) -> None:
        aws.iam.RolePolicyAttachment(
            policy.rpartition("/")[2],
            role=role.name,
            policy_arn=f"{MANAGED}/{policy}",
            opts=self.below(),
        )

    def _never_reads(self, role: aws.iam.Role, lake: DataLake) -> None:
        zones = (lake.bronze, lake.silver, lake.gold)
        objects = [pulumi.Output.concat(zone.arn, "/*") for zone in zones]
        denied = (("Messages", "s3:GetObject*", objects), ("Secrets", SECRET_VALUES, "*"))
        statements = [
            {"Sid": sid, "Effect": "Deny", "Action": actions, "Resource": resources}
            for sid, actions, resources in denied
        ]
        aws.iam.RolePolicy(
            "deploy-never-reads",
            role=role.id,
            policy=policy_document(statements),
            opts=self.below(),
        )

    def _state(self) -> tuple[Grant, ...]:
        """Pulumi's own state, in a bucket that is made by hand before the first `pulumi up`."""
        bucket = f"arn:aws:s3:::headrace-state-{self.context.settings.account_id}"
        actions = ("s3:DeleteObject", "s3:GetObject", "s3:PutObject")  # delete: its locks
        return (
            Grant("State", actions, (f"{bucket}/*",)),
            Grant("StateList", ("s3:ListBucket",), (bucket,)),
        )

    def _iam(self) -> tuple[Grant, ...]:
        context = self.context
        everything = context.arn("iam", f"role/{context.name('*')}", region=False)
        bounded = {"StringEquals": {"iam:PermissionsBoundary": self._security.boundary_arn}}
        return (
            Grant(
                "RolesSeen",
                ROLE_READ,
                (everything, context.arn("iam", f"policy/{context.name('*')}", region=False)),
            ),
            Grant(
                "ProviderSeen",
                ("iam:GetOpenIDConnectProvider",),
                (context.arn("iam", f"oidc-provider/{ISSUER}", region=False),),
            ),
            Grant("RolesBounded", ROLE_WRITE, (everything,), bounded),
            Grant("RolesChanged", ROLE_CHANGE, (everything,)),
            Grant(
                "ServiceLinked",
                ("iam:CreateServiceLinkedRole",),
                (context.arn("iam", "role/aws-service-role/*", region=False),),
            ),
        )
