package lambdaapi

import "net/http"

const (
	opInvoke      = "Invoke"
	opInvokeAsync = "InvokeAsync"
)

// operation is one operation of Lambda's API: its method and path, parts with a name in braces.
type operation struct {
	name, method, path string
	control            bool // the control service on NATS has it
	never              bool // Hearth has nothing that it could mean
}

// operations are those that clients may ask for (Lambda B4, B5). What is not served is still known, so that it is
// refused by its name and with what to use instead.
func operations() []operation {
	const (
		get, post, put, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
		functions           = "2015-03-31/functions"
		function            = "2015-03-31/functions/{FunctionName}"
	)
	return []operation{
		{name: opInvoke, method: post, path: function + "/invocations"},
		{name: opInvokeAsync, method: post, path: "2014-11-13/functions/{FunctionName}/invoke-async"},
		{name: "InvokeWithResponseStream", method: post, path: "2021-11-15/functions/{FunctionName}/response-streaming-invocations"},
		{name: "CreateFunction", method: post, path: functions, control: true},
		{name: "ListFunctions", method: get, path: functions, control: true},
		{name: "GetFunction", method: get, path: function, control: true},
		{name: "DeleteFunction", method: del, path: function, control: true},
		{name: "GetFunctionConfiguration", method: get, path: function + "/configuration", control: true},
		{name: "UpdateFunctionConfiguration", method: put, path: function + "/configuration", control: true},
		{name: "UpdateFunctionCode", method: put, path: function + "/code", control: true},
		{name: "PublishVersion", method: post, path: function + "/versions", control: true},
		{name: "ListVersionsByFunction", method: get, path: function + "/versions", control: true},
		{name: "CreateAlias", method: post, path: function + "/aliases", control: true},
		{name: "ListAliases", method: get, path: function + "/aliases", control: true},
		{name: "GetAlias", method: get, path: function + "/aliases/{Name}", control: true},
		{name: "UpdateAlias", method: put, path: function + "/aliases/{Name}", control: true},
		{name: "DeleteAlias", method: del, path: function + "/aliases/{Name}", control: true},
		{name: "AddPermission", method: post, path: function + "/policy"},
		{name: "GetPolicy", method: get, path: function + "/policy"},
		{name: "RemovePermission", method: del, path: function + "/policy/{StatementId}"},
		{name: "PutFunctionConcurrency", method: put, path: "2017-10-31/functions/{FunctionName}/concurrency", control: true},
		{name: "DeleteFunctionConcurrency", method: del, path: "2017-10-31/functions/{FunctionName}/concurrency", control: true},
		{name: "GetFunctionConcurrency", method: get, path: "2019-09-30/functions/{FunctionName}/concurrency", control: true},
		{name: "PutProvisionedConcurrencyConfig", method: put, path: "2019-09-30/functions/{FunctionName}/provisioned-concurrency", control: true},
		{name: "GetProvisionedConcurrencyConfig", method: get, path: "2019-09-30/functions/{FunctionName}/provisioned-concurrency", control: true},
		{name: "DeleteProvisionedConcurrencyConfig", method: del, path: "2019-09-30/functions/{FunctionName}/provisioned-concurrency", control: true},
		{name: "PutFunctionEventInvokeConfig", method: put, path: "2019-09-25/functions/{FunctionName}/event-invoke-config", control: true},
		{name: "UpdateFunctionEventInvokeConfig", method: post, path: "2019-09-25/functions/{FunctionName}/event-invoke-config", control: true},
		{name: "GetFunctionEventInvokeConfig", method: get, path: "2019-09-25/functions/{FunctionName}/event-invoke-config", control: true},
		{name: "DeleteFunctionEventInvokeConfig", method: del, path: "2019-09-25/functions/{FunctionName}/event-invoke-config", control: true},
		{name: "ListFunctionEventInvokeConfigs", method: get, path: "2019-09-25/functions/{FunctionName}/event-invoke-config/list", control: true},
		{name: "CreateFunctionUrlConfig", method: post, path: "2021-10-31/functions/{FunctionName}/url"},
		{name: "UpdateFunctionUrlConfig", method: put, path: "2021-10-31/functions/{FunctionName}/url"},
		{name: "GetFunctionUrlConfig", method: get, path: "2021-10-31/functions/{FunctionName}/url"},
		{name: "DeleteFunctionUrlConfig", method: del, path: "2021-10-31/functions/{FunctionName}/url"},
		{name: "ListFunctionUrlConfigs", method: get, path: "2021-10-31/functions/{FunctionName}/urls"},
		{name: "ListTags", method: get, path: "2017-03-31/tags/{Resource}"},
		{name: "TagResource", method: post, path: "2017-03-31/tags/{Resource}"},
		{name: "UntagResource", method: del, path: "2017-03-31/tags/{Resource}"},
		{name: "GetAccountSettings", method: get, path: "2016-08-19/account-settings"},
		{name: "GetFunctionCodeSigningConfig", method: get, path: "2020-06-30/functions/{FunctionName}/code-signing-config"},
		{name: "GetRuntimeManagementConfig", method: get, path: "2021-07-20/functions/{FunctionName}/runtime-management-config"},
		{name: "GetFunctionRecursionConfig", method: get, path: "2024-08-31/functions/{FunctionName}/recursion-config"},
		{name: "ListEventSourceMappings", method: get, path: "2015-03-31/event-source-mappings", never: true},
		{name: "CreateEventSourceMapping", method: post, path: "2015-03-31/event-source-mappings", never: true},
		{name: "ListLayers", method: get, path: "2018-10-31/layers", never: true},
		{name: "PublishLayerVersion", method: post, path: "2018-10-31/layers/{LayerName}/versions", never: true},
	}
}
