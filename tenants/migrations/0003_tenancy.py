"""Projects, people, roles, keys and limits as a business needs them."""

import django.db.models.deletion
import django.utils.timezone
import tenants.identifiers
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tenants', '0002_append_only_audit'),
    ]

    operations = [
        migrations.CreateModel(
            name='ApiKeyAddress',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('address', models.GenericIPAddressField()),
                ('first_seen_at', models.DateTimeField(default=django.utils.timezone.now)),
            ],
        ),
        migrations.CreateModel(
            name='AuditChain',
            fields=[
                ('organization_key', models.BigIntegerField(primary_key=True, serialize=False)),
                ('number', models.PositiveBigIntegerField()),
                ('hash', models.CharField(max_length=64)),
            ],
        ),
        migrations.CreateModel(
            name='CustomRole',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('public_id', models.CharField(default=tenants.identifiers.new_role_id, editable=False, max_length=24, unique=True)),
                ('name', models.CharField(max_length=80)),
                ('description', models.CharField(blank=True, max_length=200)),
                ('permissions', models.JSONField(default=list)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'ordering': ['name', 'pk'],
            },
        ),
        migrations.CreateModel(
            name='Group',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('public_id', models.CharField(default=tenants.identifiers.new_group_id, editable=False, max_length=24, unique=True)),
                ('name', models.CharField(max_length=120)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'ordering': ['name', 'pk'],
            },
        ),
        migrations.CreateModel(
            name='GroupMember',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name='IdempotentRequest',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('caller', models.CharField(max_length=40)),
                ('key', models.CharField(max_length=255)),
                ('fingerprint', models.CharField(help_text='SHA-256 of method, path and body.', max_length=64)),
                ('status', models.PositiveSmallIntegerField(null=True)),
                ('body', models.BinaryField(null=True)),
                ('created_at', models.DateTimeField(db_index=True, default=django.utils.timezone.now)),
            ],
        ),
        migrations.CreateModel(
            name='IdentityProvider',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('public_id', models.CharField(default=tenants.identifiers.new_identity_provider_id, editable=False, max_length=24, unique=True)),
                ('protocol', models.CharField(choices=[('openid_connect', 'OpenID Connect'), ('saml', 'SAML 2.0')], max_length=16)),
                ('slug', models.SlugField(help_text='Its part of the log-in address.', unique=True)),
                ('name', models.CharField(max_length=80)),
                ('client_id', models.CharField(blank=True, max_length=200)),
                ('secret_encrypted', models.BinaryField(null=True)),
                ('settings', models.JSONField(blank=True, default=dict, help_text="What allauth's app needs.")),
                ('verified_domains', models.JSONField(blank=True, default=list)),
                ('default_role', models.CharField(choices=[('owner', 'Owner'), ('admin', 'Admin'), ('billing', 'Billing'), ('developer', 'Developer'), ('viewer', 'Viewer')], default='developer', max_length=12)),
                ('is_enabled', models.BooleanField(default=False)),
                ('is_enforced', models.BooleanField(default=False, help_text='Addresses of its domains can log in by no other way.')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'ordering': ['name', 'pk'],
            },
        ),
        migrations.CreateModel(
            name='Invitation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('public_id', models.CharField(default=tenants.identifiers.new_invitation_id, editable=False, max_length=24, unique=True)),
                ('email', models.EmailField(max_length=254)),
                ('role', models.CharField(choices=[('owner', 'Owner'), ('admin', 'Admin'), ('billing', 'Billing'), ('developer', 'Developer'), ('viewer', 'Viewer')], max_length=12)),
                ('projects', models.JSONField(blank=True, default=list)),
                ('token_digest', models.CharField(editable=False, max_length=64, unique=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('expires_at', models.DateTimeField()),
                ('accepted_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('revoked_at', models.DateTimeField(blank=True, editable=False, null=True)),
            ],
            options={
                'ordering': ['-created_at', '-pk'],
            },
        ),
        migrations.CreateModel(
            name='PlanModelLimit',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('requests_per_minute', models.PositiveIntegerField(blank=True, null=True)),
                ('requests_per_hour', models.PositiveIntegerField(blank=True, null=True)),
                ('requests_per_day', models.PositiveIntegerField(blank=True, null=True)),
                ('tokens_per_minute', models.PositiveIntegerField(blank=True, help_text='Prompt tokens plus expected output tokens.', null=True)),
                ('tokens_per_day', models.PositiveBigIntegerField(blank=True, null=True)),
                ('concurrent_requests', models.PositiveIntegerField(blank=True, null=True)),
                ('monthly_tokens', models.PositiveBigIntegerField(blank=True, help_text='Prompt plus output tokens a calendar month (UTC).', null=True)),
                ('monthly_budget_micros', models.PositiveBigIntegerField(blank=True, help_text='Micro-dollars a calendar month (UTC); 1,000,000 is $1.', null=True)),
                ('model', models.CharField(help_text="The model's public name.", max_length=120)),
            ],
            options={
                'ordering': ['model'],
            },
        ),
        migrations.CreateModel(
            name='ProjectMembership',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('role', models.CharField(choices=[('owner', 'Project owner'), ('member', 'Member'), ('viewer', 'Viewer')], max_length=12)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name='ProjectModelLimit',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('requests_per_minute', models.PositiveIntegerField(blank=True, null=True)),
                ('requests_per_hour', models.PositiveIntegerField(blank=True, null=True)),
                ('requests_per_day', models.PositiveIntegerField(blank=True, null=True)),
                ('tokens_per_minute', models.PositiveIntegerField(blank=True, help_text='Prompt tokens plus expected output tokens.', null=True)),
                ('tokens_per_day', models.PositiveBigIntegerField(blank=True, null=True)),
                ('concurrent_requests', models.PositiveIntegerField(blank=True, null=True)),
                ('monthly_tokens', models.PositiveBigIntegerField(blank=True, help_text='Prompt plus output tokens a calendar month (UTC).', null=True)),
                ('monthly_budget_micros', models.PositiveBigIntegerField(blank=True, help_text='Micro-dollars a calendar month (UTC); 1,000,000 is $1.', null=True)),
                ('model', models.CharField(help_text="The model's public name.", max_length=120)),
            ],
            options={
                'ordering': ['model'],
            },
        ),
        migrations.CreateModel(
            name='RoleAssignment',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name='ServiceAccount',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('public_id', models.CharField(default=tenants.identifiers.new_service_account_id, editable=False, max_length=24, unique=True)),
                ('name', models.CharField(max_length=120)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('deleted_at', models.DateTimeField(blank=True, editable=False, null=True)),
            ],
            options={
                'ordering': ['created_at', 'pk'],
            },
        ),
        migrations.AddField(
            model_name='apikey',
            name='allowed_models',
            field=models.JSONField(blank=True, default=list, help_text='Public names; empty allows every model.'),
        ),
        migrations.AddField(
            model_name='apikey',
            name='allowed_networks',
            field=models.JSONField(blank=True, default=list, help_text='Addresses or CIDR networks; empty allows every one.'),
        ),
        migrations.AddField(
            model_name='apikey',
            name='expiry_warned_at',
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='apikey',
            name='kind',
            field=models.CharField(choices=[('project', 'Project key'), ('service_account', 'Service account key'), ('admin', 'Admin key: manages, cannot infer')], default='project', max_length=16),
        ),
        migrations.AddField(
            model_name='apikey',
            name='monthly_budget_micros',
            field=models.PositiveBigIntegerField(blank=True, help_text='Micro-dollars a calendar month (UTC); 1,000,000 is $1.', null=True),
        ),
        migrations.AddField(
            model_name='apikey',
            name='previous_expires_at',
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='apikey',
            name='previous_lookup',
            field=models.CharField(editable=False, max_length=16, null=True, unique=True),
        ),
        migrations.AddField(
            model_name='apikey',
            name='previous_secret_hmac',
            field=models.BinaryField(max_length=32, null=True),
        ),
        migrations.AddField(
            model_name='apikey',
            name='requests_per_day',
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='apikey',
            name='requests_per_hour',
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='apikey',
            name='rotated_at',
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='apikey',
            name='scopes',
            field=models.JSONField(blank=True, default=list, help_text='What it may do; empty means all that its kind may.'),
        ),
        migrations.AddField(
            model_name='apikey',
            name='suspended_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='apikey',
            name='suspended_reason',
            field=models.CharField(blank=True, max_length=200),
        ),
        migrations.AddField(
            model_name='apikey',
            name='tokens_per_day',
            field=models.PositiveBigIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='auditevent',
            name='acting_key',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='tenants.apikey'),
        ),
        migrations.AddField(
            model_name='auditevent',
            name='actor_type',
            field=models.CharField(choices=[('user', 'Member'), ('staff', 'Staff'), ('api_key', 'API key'), ('system', 'The platform')], default='system', max_length=8),
        ),
        migrations.AddField(
            model_name='auditevent',
            name='content',
            field=models.TextField(blank=True, editable=False),
        ),
        migrations.AddField(
            model_name='auditevent',
            name='hash',
            field=models.CharField(blank=True, editable=False, max_length=64),
        ),
        migrations.AddField(
            model_name='auditevent',
            name='number',
            field=models.PositiveBigIntegerField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='auditevent',
            name='previous_hash',
            field=models.CharField(blank=True, editable=False, max_length=64),
        ),
        migrations.AddField(
            model_name='auditevent',
            name='project_id',
            field=models.CharField(blank=True, max_length=24),
        ),
        migrations.AddField(
            model_name='auditevent',
            name='public_id',
            field=models.CharField(default=tenants.identifiers.new_audit_event_id, editable=False, max_length=24),
        ),
        migrations.AddField(
            model_name='organization',
            name='concurrent_requests',
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='organization',
            name='credit_granted_micros',
            field=models.PositiveBigIntegerField(default=0, editable=False),
        ),
        migrations.AddField(
            model_name='organization',
            name='is_prepaid',
            field=models.BooleanField(default=False, help_text='Spends credit that was granted before; refused when it is gone.'),
        ),
        migrations.AddField(
            model_name='organization',
            name='monthly_budget_micros',
            field=models.PositiveBigIntegerField(blank=True, help_text='Micro-dollars a calendar month (UTC); 1,000,000 is $1.', null=True),
        ),
        migrations.AddField(
            model_name='organization',
            name='monthly_tokens',
            field=models.PositiveBigIntegerField(blank=True, help_text='Prompt plus output tokens a calendar month (UTC).', null=True),
        ),
        migrations.AddField(
            model_name='organization',
            name='requests_per_day',
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='organization',
            name='requests_per_hour',
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='organization',
            name='requests_per_minute',
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='organization',
            name='requires_mfa',
            field=models.BooleanField(default=False, help_text='Members must log in with a second factor to see it.'),
        ),
        migrations.AddField(
            model_name='organization',
            name='tokens_per_day',
            field=models.PositiveBigIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='organization',
            name='tokens_per_minute',
            field=models.PositiveIntegerField(blank=True, help_text='Prompt tokens plus expected output tokens.', null=True),
        ),
        migrations.AddField(
            model_name='plan',
            name='allows_custom_limits',
            field=models.BooleanField(default=False, help_text='Organizations may have limits of their own in place of these.'),
        ),
        migrations.AddField(
            model_name='plan',
            name='allows_dedicated_capacity',
            field=models.BooleanField(default=False, help_text='Deployments may be kept for organizations of this plan.'),
        ),
        migrations.AddField(
            model_name='plan',
            name='monthly_budget_micros',
            field=models.PositiveBigIntegerField(blank=True, help_text='Micro-dollars a calendar month (UTC); 1,000,000 is $1.', null=True),
        ),
        migrations.AddField(
            model_name='plan',
            name='requests_per_day',
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='plan',
            name='requests_per_hour',
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='plan',
            name='tokens_per_day',
            field=models.PositiveBigIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='project',
            name='allowed_models',
            field=models.JSONField(blank=True, default=list, help_text='Public names; empty allows every model.'),
        ),
        migrations.AddField(
            model_name='project',
            name='concurrent_requests',
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='project',
            name='denied_models',
            field=models.JSONField(blank=True, default=list),
        ),
        migrations.AddField(
            model_name='project',
            name='monthly_budget_micros',
            field=models.PositiveBigIntegerField(blank=True, help_text='Micro-dollars a calendar month (UTC); 1,000,000 is $1.', null=True),
        ),
        migrations.AddField(
            model_name='project',
            name='monthly_tokens',
            field=models.PositiveBigIntegerField(blank=True, help_text='Prompt plus output tokens a calendar month (UTC).', null=True),
        ),
        migrations.AddField(
            model_name='project',
            name='requests_per_day',
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='project',
            name='requests_per_hour',
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='project',
            name='requests_per_minute',
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='project',
            name='tokens_per_day',
            field=models.PositiveBigIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='project',
            name='tokens_per_minute',
            field=models.PositiveIntegerField(blank=True, help_text='Prompt tokens plus expected output tokens.', null=True),
        ),
        migrations.AddField(
            model_name='user',
            name='public_id',
            field=models.CharField(default=tenants.identifiers.new_user_id, editable=False, max_length=24),
        ),
        migrations.AlterField(
            model_name='apikey',
            name='project',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='api_keys', to='tenants.project'),
        ),
        migrations.AddIndex(
            model_name='auditevent',
            index=models.Index(fields=['organization', 'action', '-at'], name='tenants_audit_by_action'),
        ),
        migrations.AddIndex(
            model_name='organization',
            index=models.Index(fields=['name', 'id'], name='tenants_org_by_name'),
        ),
        migrations.AddConstraint(
            model_name='auditevent',
            constraint=models.UniqueConstraint(condition=models.Q(('number__isnull', False)), fields=('organization', 'number'), name='tenants_audit_chain_number', nulls_distinct=False),
        ),
        migrations.AddField(
            model_name='apikeyaddress',
            name='api_key',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='addresses', to='tenants.apikey'),
        ),
        migrations.AddField(
            model_name='apikeyaddress',
            name='organization',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.organization'),
        ),
        migrations.AddField(
            model_name='customrole',
            name='organization',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='custom_roles', to='tenants.organization'),
        ),
        migrations.AddField(
            model_name='customrole',
            name='project',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='custom_roles', to='tenants.project'),
        ),
        migrations.AddField(
            model_name='group',
            name='organization',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='groups', to='tenants.organization'),
        ),
        migrations.AddField(
            model_name='groupmember',
            name='group',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='members', to='tenants.group'),
        ),
        migrations.AddField(
            model_name='groupmember',
            name='organization',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.organization'),
        ),
        migrations.AddField(
            model_name='groupmember',
            name='user',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='group_memberships', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='idempotentrequest',
            name='organization',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.organization'),
        ),
        migrations.AddField(
            model_name='identityprovider',
            name='organization',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='identity_providers', to='tenants.organization'),
        ),
        migrations.AddField(
            model_name='invitation',
            name='accepted_by',
            field=models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='invitation',
            name='invited_by',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='invitation',
            name='organization',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='invitations', to='tenants.organization'),
        ),
        migrations.AddField(
            model_name='planmodellimit',
            name='plan',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='model_limits', to='tenants.plan'),
        ),
        migrations.AddField(
            model_name='projectmembership',
            name='organization',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.organization'),
        ),
        migrations.AddField(
            model_name='projectmembership',
            name='project',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='memberships', to='tenants.project'),
        ),
        migrations.AddField(
            model_name='projectmembership',
            name='user',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='project_memberships', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='projectmodellimit',
            name='organization',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.organization'),
        ),
        migrations.AddField(
            model_name='projectmodellimit',
            name='project',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='model_limits', to='tenants.project'),
        ),
        migrations.AddField(
            model_name='roleassignment',
            name='group',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='role_assignments', to='tenants.group'),
        ),
        migrations.AddField(
            model_name='roleassignment',
            name='organization',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='role_assignments', to='tenants.organization'),
        ),
        migrations.AddField(
            model_name='roleassignment',
            name='project',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='role_assignments', to='tenants.project'),
        ),
        migrations.AddField(
            model_name='roleassignment',
            name='role',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='assignments', to='tenants.customrole'),
        ),
        migrations.AddField(
            model_name='roleassignment',
            name='user',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='role_assignments', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='serviceaccount',
            name='organization',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='service_accounts', to='tenants.organization'),
        ),
        migrations.AddField(
            model_name='serviceaccount',
            name='project',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='service_accounts', to='tenants.project'),
        ),
        migrations.AddField(
            model_name='apikey',
            name='service_account',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='api_keys', to='tenants.serviceaccount'),
        ),
        migrations.AddIndex(
            model_name='apikey',
            index=models.Index(condition=models.Q(('expires_at__isnull', False), ('revoked_at', None)), fields=['expires_at'], name='tenants_key_by_expiry'),
        ),
        migrations.AddConstraint(
            model_name='apikey',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('kind', 'admin'), ('project', None)), models.Q(models.Q(('kind', 'admin'), _negated=True), ('project__isnull', False)), _connector='OR'), name='tenants_key_of_a_project'),
        ),
        migrations.AddConstraint(
            model_name='apikey',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('kind', 'service_account'), ('service_account__isnull', False)), models.Q(models.Q(('kind', 'service_account'), _negated=True), ('service_account', None)), _connector='OR'), name='tenants_key_of_an_account'),
        ),
        migrations.AddConstraint(
            model_name='apikeyaddress',
            constraint=models.UniqueConstraint(fields=('api_key', 'address'), name='tenants_key_address_once'),
        ),
        migrations.AddConstraint(
            model_name='customrole',
            constraint=models.UniqueConstraint(fields=('organization', 'project', 'name'), name='tenants_role_name', nulls_distinct=False),
        ),
        migrations.AddConstraint(
            model_name='group',
            constraint=models.UniqueConstraint(fields=('organization', 'name'), name='tenants_group_name'),
        ),
        migrations.AddConstraint(
            model_name='groupmember',
            constraint=models.UniqueConstraint(fields=('group', 'user'), name='tenants_group_member_once'),
        ),
        migrations.AddConstraint(
            model_name='idempotentrequest',
            constraint=models.UniqueConstraint(fields=('organization', 'caller', 'key'), name='tenants_idempotent_once'),
        ),
        migrations.AddConstraint(
            model_name='invitation',
            constraint=models.UniqueConstraint(condition=models.Q(('accepted_at', None), ('revoked_at', None)), fields=('organization', 'email'), name='tenants_invitation_once'),
        ),
        migrations.AddConstraint(
            model_name='planmodellimit',
            constraint=models.UniqueConstraint(fields=('plan', 'model'), name='tenants_plan_model_once'),
        ),
        migrations.AddConstraint(
            model_name='projectmembership',
            constraint=models.UniqueConstraint(fields=('project', 'user'), name='tenants_project_membership_once'),
        ),
        migrations.AddConstraint(
            model_name='projectmodellimit',
            constraint=models.UniqueConstraint(fields=('project', 'model'), name='tenants_project_model_once'),
        ),
        migrations.AddConstraint(
            model_name='roleassignment',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('group__isnull', True), ('user__isnull', False)), models.Q(('group__isnull', False), ('user__isnull', True)), _connector='OR'), name='tenants_assignment_to_one'),
        ),
        migrations.AddConstraint(
            model_name='roleassignment',
            constraint=models.UniqueConstraint(fields=('role', 'user', 'group', 'project'), name='tenants_assignment_once', nulls_distinct=False),
        ),
        # One default for all rows that exist would not be unique.
        migrations.RunSQL(
            """
            ALTER TABLE tenants_auditevent DISABLE TRIGGER tenants_auditevent_append_only;
            UPDATE tenants_auditevent SET public_id = 'audit_' || substr(md5(id::text || random()::text), 1, 16);
            ALTER TABLE tenants_auditevent ENABLE TRIGGER tenants_auditevent_append_only;
            UPDATE tenants_user SET public_id = 'user_' || substr(md5(id::text || random()::text), 1, 16);
            """,
            migrations.RunSQL.noop,
        ),
        migrations.AlterField(
            model_name='auditevent',
            name='public_id',
            field=models.CharField(default=tenants.identifiers.new_audit_event_id, editable=False, max_length=24, unique=True),
        ),
        migrations.AlterField(
            model_name='user',
            name='public_id',
            field=models.CharField(default=tenants.identifiers.new_user_id, editable=False, max_length=24, unique=True),
        ),
    ]
